import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { connect as connectSocket } from 'node:net'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import type { Config } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'
import { findConfig } from '../load-config.ts'
import { migrate } from '../registry/migrate.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'
import { runWorker } from './worker.ts'

interface Options extends CommonOptions {
  dataDir: string
}

const UNREACHABLE = {
  PostgreSQL: 'POSTGRES_UNREACHABLE',
  Redis: 'STORE_UNREACHABLE',
  Temporal: 'TEMPORAL_UNREACHABLE',
} as const

const POSTGRES_PORT = 54_329
const REDIS_PORT = 6_379
const LOCAL_REDIS = `redis://127.0.0.1:${REDIS_PORT}/0`
const TEMPORAL_PORT = 7_233
/** As `temporal server start-dev` has it. */
const UI_ABOVE_PORT = 1_000
const PROBE_TIMEOUT_MS = 1_000
const ALIVE_MS = 60_000

export function up(program: Command): void {
  verb(program, {
    usage: 'up',
    summary: 'for development: start what is not there of PostgreSQL, Redis and Temporal on this machine, and a worker',
    examples: [['snapflip up', 'until Ctrl-C; everything stays in .snapflip/']],
  })
    .option('--data-dir <folder>', 'where the local services keep their data', '.snapflip')
    .action(act<Options>(run))
}

/**
 * The definition says what is needed: PostgreSQL when DATABASE_URL is not set, Temporal and Redis when an address of this machine is named at
 * which nobody answers, Redis only for a store that a dataset uses. What already runs is used and left alone.
 */
async function run(session: Session, options: Options): Promise<Answer> {
  const folder = resolve(options.dataDir)
  await mkdir(folder, { recursive: true })
  const variables: Record<string, string> = {}
  const started = async <T extends { stop(): Promise<void> }>(
    name: keyof typeof UNREACHABLE,
    start: () => Promise<T>,
  ): Promise<T> => {
    session.note(`Starting ${name} …`)
    const service = await start().catch((error: unknown) => {
      // What starts services says what it expected, what it found and what to do.
      const message = error instanceof Error ? error.message : String(error)
      throw new SnapflipError(UNREACHABLE[name], message, { service: name }, error)
    })
    session.onClose(() => service.stop())
    return service
  }
  if (!process.env.DATABASE_URL) {
    const { startPostgres } = await import('../local/postgres.ts')
    const port = await freeOr(POSTGRES_PORT)
    const postgres = await started('PostgreSQL', () => startPostgres({ dataDir: join(folder, 'postgres'), ...port }))
    variables.DATABASE_URL = postgres.url
  }
  const wanted = process.env.TEMPORAL_ADDRESS
  const [host, port] = splitAddress(wanted ?? `localhost:${TEMPORAL_PORT}`)
  if (isLocal(host) && !(await answers(host, port))) {
    const { startTemporal } = await import('../local/temporal.ts')
    const temporal = await started('Temporal', () =>
      startTemporal({ port, uiPort: port + UI_ABOVE_PORT, dbFilename: join(folder, 'temporal.db') }),
    )
    if (wanted === undefined) variables.TEMPORAL_ADDRESS = temporal.address
    session.note(`Temporal's UI: ${temporal.uiUrl}`)
  }
  if (!process.env.REDIS_URL) variables.REDIS_URL = LOCAL_REDIS
  // The definition reads them as in any other shell.
  for (const [name, value] of Object.entries(variables)) process.env[name] = value
  // Nobody adds a database and its password to a repository by accident.
  await writeFile(join(folder, '.gitignore'), '*\n')
  if (options.config === undefined && findConfig(process.cwd()) === null) {
    await writeVariables(session, folder, variables)
    const stopped = untilStopped()
    session.note(
      'No definition yet: make your tables, `snapflip init` writes one from them; then `snapflip up` again. Ctrl-C ends everything.',
    )
    await stopped
    return { json: { stopped: true, dataDir: folder }, text: '' }
  }
  const loaded = await session.loaded()
  const { config } = loaded
  if (!needsLocalRedis(config)) delete variables.REDIS_URL
  else if (!(await answers('127.0.0.1', REDIS_PORT))) {
    const { startRedis } = await import('../local/redis.ts')
    const dataDir = join(folder, 'redis')
    await mkdir(dataDir, { recursive: true })
    await started('Redis', () => startRedis({ dataDir, port: REDIS_PORT }))
  }
  await writeVariables(session, folder, variables)
  const run = await migrate(config.database)
  if (run.length > 0) session.note(`Made snapflip's tables: ${run.join(', ')}. Next: snapflip apply`)
  session.note('Worker runs; Ctrl-C ends everything.')
  await runWorker({ ...loaded, config }, { workDir: join(folder, 'work') })
  return { json: { stopped: true, dataDir: folder }, text: '' }
}

/** What was started need not keep the process alive: all of it may have been there. */
async function untilStopped(): Promise<void> {
  const alive = setInterval(() => undefined, ALIVE_MS)
  await new Promise((stop) => process.once('SIGINT', stop).once('SIGTERM', stop))
  clearInterval(alive)
}

async function writeVariables(session: Session, folder: string, variables: Record<string, string>): Promise<void> {
  const file = join(folder, 'env')
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}='${value}'\n`)
  await writeFile(file, lines.join(''), { mode: 0o600 })
  await chmod(file, 0o600)
  session.note(`In other shells: . ${file}`)
}

function needsLocalRedis({ datasets, stores }: Config): boolean {
  const used = Object.values(datasets).flatMap((dataset) => dataset.stores.map((name) => stores[name] ?? ''))
  return used.some((url) => {
    if (!/^redis:/i.test(url)) return false
    const { hostname, port } = new URL(url)
    return isLocal(hostname) && Number(port || REDIS_PORT) === REDIS_PORT
  })
}

function splitAddress(address: string): [host: string, port: number] {
  const at = address.lastIndexOf(':')
  return [address.slice(0, at), Number(address.slice(at + 1))]
}

const isLocal = (host: string) => ['localhost', '127.0.0.1', '::1', '[::1]'].includes(host)

/** The usual port, unless somebody has it: then one that is free. */
async function freeOr(port: number): Promise<{ port?: number }> {
  return (await answers('127.0.0.1', port)) ? {} : { port }
}

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connectSocket({ host, port, timeout: PROBE_TIMEOUT_MS })
    const end = (answer: boolean) => {
      socket.destroy()
      done(answer)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
    socket.once('timeout', () => end(false))
  })
}
