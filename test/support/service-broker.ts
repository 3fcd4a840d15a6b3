import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type PostgresVersion, startPostgres } from '../../src/local/postgres.ts'
import { startRedis } from '../../src/local/redis.ts'
import { startS3 } from '../../src/local/s3.ts'
import { startTemporal } from '../../src/local/temporal.ts'
import { makeTemplates, type Templates } from './database-templates.ts'
import { bundleWorkflows } from './workflow-bundle.ts'

/** What a test gets to know about a running service. */
export type ServiceAddresses = {
  postgres18: PostgresAddress
  postgres15: PostgresAddress
  redis: { url: string; host: string; port: number }
  redisCluster: { url: string; host: string; port: number }
  s3: { endpoint: string; bucket: string; region: string; env: Record<string, string> }
  temporal: { address: string; namespace: string }
  /** Not a server: the workflows, bundled once for all workers of the run. */
  workflowBundle: { codePath: string }
}
export type PostgresAddress = { url: string } & Templates
export type ServiceName = keyof ServiceAddresses

type Running<A> = { address: A; stop(): Promise<void> }

const starters: { [N in ServiceName]: () => Promise<Running<ServiceAddresses[N]>> } = {
  postgres18: () => postgres('18'),
  postgres15: () => postgres('15'),
  redis: () => redis(false),
  redisCluster: () => redis(true),
  s3: async () => {
    const { endpoint, bucket, region, env, stop } = await startS3({ bucket: 'snapflip-test' })
    return { address: { endpoint, bucket, region, env }, stop }
  },
  temporal: async () => {
    const { address, namespace, stop } = await startTemporal()
    return { address: { address, namespace }, stop }
  },
  workflowBundle: async () => {
    const folder = await mkdtemp(join(tmpdir(), 'snapflip-bundle-'))
    const stop = () => rm(folder, { recursive: true, force: true })
    return { address: { codePath: await bundleWorkflows(folder) }, stop }
  },
}

async function postgres(version: PostgresVersion): Promise<Running<PostgresAddress>> {
  const server = await startPostgres({ version, fsync: false })
  try {
    return { address: { url: server.url, ...(await makeTemplates(server)) }, stop: server.stop }
  } catch (error) {
    await server.stop()
    throw error
  }
}

async function redis(cluster: boolean): Promise<Running<ServiceAddresses['redis']>> {
  const { url, host, port, stop } = await startRedis({ cluster })
  return { address: { url, host, port }, stop }
}

/**
 * Starts each service when the first test asks for it, once per run, and stops them all at the end. Answers over a
 * socket in a folder of its own, so runs at the same time do not meet, and a single file starts what it needs only.
 */
export async function startBroker(): Promise<{ socketPath: string; stop(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'snapflip-broker-'))
  const socketPath = join(folder, 'socket')
  const running = new Map<ServiceName, Promise<Running<ServiceAddresses[ServiceName]>>>()
  const server = createServer((incoming, response) => {
    const name = incoming.url?.slice(1) as ServiceName
    const service = running.get(name) ?? starters[name]()
    running.set(name, service)
    service.then(
      ({ address }) => response.end(JSON.stringify(address)),
      (error: unknown) => response.writeHead(500).end(error instanceof Error ? error.message : String(error)),
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(socketPath, resolve)
  })
  return {
    socketPath,
    async stop() {
      server.close()
      server.closeAllConnections()
      const started = await Promise.allSettled(running.values())
      const stopped = await Promise.allSettled(
        started.map((service) => service.status === 'fulfilled' && service.value.stop()),
      )
      await rm(folder, { recursive: true, force: true })
      const failed = stopped.find((result) => result.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    },
  }
}

/** Asks the broker for a service, which starts it if need be. Throws with the service's own message if it cannot start. */
export function askBroker<N extends ServiceName>(socketPath: string, name: N): Promise<ServiceAddresses[N]> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, path: `/${name}`, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        body += text
      })
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(body) as ServiceAddresses[N])
        else reject(new Error(body))
      })
    })
    asking.on('error', reject)
    asking.end()
  })
}
