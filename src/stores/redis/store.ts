import type { OpenOptions } from '../open.ts'
import type { Store } from '../ports.ts'
import { checkRedis, redisFreeBytes } from './check.ts'
import { parseRedisUrl, RedisConnection } from './connection.ts'
import { RedisCounters } from './counters.ts'
import { RedisData } from './data.ts'
import { RedisKeys } from './keys.ts'
import { RedisLeases } from './leases.ts'
import { RedisPointer } from './pointer.ts'

/**
 * A store in Redis: `redis://` or `rediss://user:password@host:port/db`, with `?prefix=` (of all keys), `?waitReplicas=`,
 * `?connectTimeoutMs=`, `?commandTimeoutMs=`, `?tlsCa=` (a file) and `?tlsServername=`.
 */
export function openRedisStore(url: string, options: OpenOptions): Store {
  const target = parseRedisUrl(url, options)
  const connection = new RedisConnection(target)
  const keys = new RedisKeys(target.prefix, options.dataset)
  return {
    url: target.shown,
    data: new RedisData(connection, keys),
    pointer: new RedisPointer(connection, keys),
    leases: new RedisLeases(connection, keys),
    counters: new RedisCounters(connection, keys),
    check: () => checkRedis(connection, keys, target.waitReplicas),
    freeBytes: () => redisFreeBytes(connection),
    close: async () => connection.close(),
  }
}
