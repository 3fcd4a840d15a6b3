import { randomUUID } from 'node:crypto'
import { SnapflipError } from '../../core/errors.ts'
import type { RedisConnection } from './connection.ts'
import type { RedisKeys } from './keys.ts'

/** Scripts with flags came with 7.0. */
const VERSION_MIN = 7

/** Proves that this Redis keeps what it is given; throws STORE_UNSUITABLE with the first thing that does not hold. */
export async function checkRedis(connection: RedisConnection, keys: RedisKeys, waitReplicas: number): Promise<void> {
  const info = await serverInfo(connection)
  const { url } = connection
  const unsuitable = (found: string, expected: string, hint: string) =>
    new SnapflipError('STORE_UNSUITABLE', `${url} ${found}, expected ${expected}. ${hint}`, { store: url })

  const version = info.get('redis_version') ?? 'unknown'
  if (Number.parseInt(version, 10) < VERSION_MIN) {
    throw unsuitable(`is Redis ${version}`, `${VERSION_MIN}.0 or newer`, 'Upgrade it.')
  }
  if (info.get('role') !== 'master') {
    throw unsuitable(`is a ${info.get('role')}`, 'a primary', 'Give the address of the primary.')
  }
  const policy = info.get('maxmemory_policy')
  if (policy !== undefined && policy !== 'noeviction') {
    throw unsuitable(
      `has maxmemory-policy ${policy}`,
      'noeviction',
      'It would evict blocks and the pointer itself; `config set maxmemory-policy noeviction`.',
    )
  }
  if (info.get('cluster_enabled') === '1') {
    const cluster = parseInfo(
      (await connection.run('asking for the cluster', () => connection.redis.cluster('INFO'))) as string,
    )
    if (cluster.get('cluster_state') !== 'ok' || Number(cluster.get('cluster_size')) > 1) {
      throw unsuitable(
        `is in a cluster of size ${cluster.get('cluster_size')} in state ${cluster.get('cluster_state')}`,
        'one node that holds all slots, in state ok',
        'A dataset is not spread over nodes: give it a Redis without cluster mode, or a cluster of one node.',
      )
    }
  }
  // One that still loads its first copy acknowledges nothing.
  const replicas = [...info].filter(([name, value]) => /^slave\d+$/.test(name) && value.includes('state=online')).length
  if (replicas < waitReplicas) {
    throw unsuitable(
      `has ${replicas} replicas online`,
      `the ${waitReplicas} of waitReplicas`,
      'Attach them, or lower waitReplicas.',
    )
  }
  await connection.run('checking that it can be written', async () => {
    const mark = randomUUID()
    await connection.redis.set(keys.probe, mark)
    const found = await connection.redis.get(keys.probe)
    await connection.redis.unlink(keys.probe)
    if (found !== mark) {
      throw unsuitable('returned another value than was written', 'the same', 'Is something else writing there?')
    }
  })
}

/** What maxmemory still allows; null without maxmemory. */
export async function redisFreeBytes(connection: RedisConnection): Promise<number | null> {
  const info = await serverInfo(connection)
  const limit = Number(info.get('maxmemory') ?? 0)
  return limit === 0 ? null : Math.max(0, limit - Number(info.get('used_memory') ?? 0))
}

async function serverInfo(connection: RedisConnection): Promise<Map<string, string>> {
  return parseInfo(await connection.run('asking for its settings', () => connection.redis.info()))
}

function parseInfo(text: string): Map<string, string> {
  const lines = text.split('\r\n').filter((line) => line.includes(':'))
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]))
}
