import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { requireBinary } from './find-binary.ts'
import { freePort, isFree } from './free-port.ts'
import { startServerProcess } from './server-process.ts'
import { startOnPort } from './start-on-port.ts'

export type StartRedisOptions = {
  /** One node with `cluster-enabled yes` that holds all slots. */
  cluster?: boolean
  /** `noeviction`, which snapflip needs, unless a test wants another. */
  maxmemoryPolicy?: string
  /** Kept across starts, with an append-only file; without it nothing is written to disk. */
  dataDir?: string
  port?: number
  /** More settings, as in redis.conf. */
  settings?: Record<string, string>
}

export type LocalRedis = {
  url: string
  host: '127.0.0.1'
  port: number
  cluster: boolean
  /** Ends the server without a word (SIGKILL). */
  crash(): Promise<void>
  stop(): Promise<void>
}

/** Redis adds this to a node's port for the cluster bus. */
const CLUSTER_BUS_OFFSET = 10_000

/**
 * Starts `redis-server` of the PATH on 127.0.0.1.
 *
 * @throws Error when the binary is missing or the server does not come up, with its last log lines.
 */
export async function startRedis(options: StartRedisOptions = {}): Promise<LocalRedis> {
  const { cluster = false, maxmemoryPolicy = 'noeviction', settings = {} } = options
  const command = requireBinary(
    'redis-server',
    'Install Redis 6.2 or newer (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis).',
  )
  return startOnPort(
    options.port,
    async (port) => {
      const temporaryFolder =
        options.dataDir === undefined ? await mkdtemp(join(tmpdir(), 'snapflip-redis-')) : undefined
      const server = await startServerProcess({
        name: cluster ? 'Redis (cluster)' : 'Redis',
        command,
        args: settingArgs({
          port: String(port),
          bind: '127.0.0.1',
          dir: options.dataDir ?? (temporaryFolder as string),
          save: '',
          appendonly: options.dataDir === undefined ? 'no' : 'yes',
          'maxmemory-policy': maxmemoryPolicy,
          ...(cluster ? { 'cluster-enabled': 'yes' } : {}),
          ...settings,
        }),
        temporaryFolder,
      })
      await server.ready(() => answers(port, server.pid, cluster))
      return {
        url: `redis://127.0.0.1:${port}/0`,
        host: '127.0.0.1',
        port,
        cluster,
        crash: () => server.kill('SIGKILL'),
        stop: () => server.stop(),
      }
    },
    cluster
      ? () => freePort((port) => port + CLUSTER_BUS_OFFSET < 65_536 && isFree(port + CLUSTER_BUS_OFFSET))
      : freePort,
  )
}

function settingArgs(settings: Record<string, string>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
}

async function answers(port: number, pid: number, cluster: boolean): Promise<boolean> {
  const redis = new Redis({
    host: '127.0.0.1',
    port,
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
  })
  redis.on('error', () => {}) // the server is not up yet; the next probe tells
  try {
    await redis.connect()
    // Another server may have bound the port in between.
    if (!(await redis.info('server')).includes(`process_id:${pid}`)) return false
    return !cluster || (await holdsAllSlots(redis))
  } finally {
    redis.disconnect()
  }
}

async function holdsAllSlots(redis: Redis): Promise<boolean> {
  const info = String(await redis.call('cluster', 'info'))
  // Naming every slot works on all versions; ADDSLOTSRANGE came with Redis 7.
  if (info.includes('cluster_slots_assigned:0')) {
    await redis.call('cluster', 'addslots', ...Array.from({ length: 16_384 }, (_, slot) => String(slot)))
  }
  return info.includes('cluster_state:ok')
}
