import { type ChildProcess, fork, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client, Connection } from '@temporalio/client'
import { Redis } from 'ioredis'
import pg from 'pg'
import { type Config, type ConfigInput, configSchema } from '../schemas/config.ts'
import { type RefreshOutcome, WORKFLOW_ID } from '../schemas/refresh.ts'
import { attach } from '../src/changelog/capture.ts'
import { resolveSource } from '../src/changelog/definition.ts'
import { startPostgres } from '../src/local/postgres.ts'
import { startRedis } from '../src/local/redis.ts'
import { startS3 } from '../src/local/s3.ts'
import { startTemporal } from '../src/local/temporal.ts'
import { applyDefinition } from '../src/registry/apply-definition.ts'
import { migrate } from '../src/registry/migrate.ts'
import { COLUMNS, makeRows, TABLE } from './rows.ts'

/** Times a full build into Redis is measured, each into a dataset of its own. */
export const ROUNDS_MAX = 5
/** The index of every dataset here. */
export const INDEX = 'products'
/** The dataset that continuous mode refreshes. */
export const FRESH = 'fresh'
export const CONTINUOUS = { atMostEveryMs: 100 }
/** Redis database of what is measured beside snapflip; snapflip's own is 0. */
const PLAIN_DB = 1

/** Servers, rows and a worker, made once for everything measured in one run. */
export interface World {
  rows: number
  config: Config
  pool: pg.Pool
  databaseUrl(database: string): string
  redisUrl: string
  redisPort: number
  /** Commands beside snapflip: plain SETs, raw GETs. */
  plain: Redis
  folder: string
  configFile: string
  worker: BenchWorker
  client: Client
  /** Runs the refresh workflow to its end and expects it to flip. */
  refresh(dataset: string): Promise<{ outcome: RefreshOutcome; ms: number }>
  connect(): Promise<pg.Client>
}

export interface BenchWorker {
  /** VmHWM of the worker's process since it started, or since `resetPeak`. Bytes. */
  peakBytes(): Promise<number>
  resetPeak(): Promise<void>
}

export async function withWorld(rows: number, say: (line: string) => void, body: (world: World) => Promise<void>) {
  const cleanups: Array<() => Promise<unknown>> = []
  try {
    await body(await makeWorld(rows, say, cleanups))
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup()
  }
}

async function makeWorld(
  rows: number,
  say: (line: string) => void,
  cleanups: Array<() => Promise<unknown>>,
): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), 'snapflip-bench-'))
  cleanups.push(() => rm(folder, { recursive: true, force: true }))
  const started = async <T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> => {
    const server = await starting
    cleanups.push(() => server.stop())
    return server
  }
  say('starting PostgreSQL, Redis, versitygw, Temporal')
  const postgres = await started(startPostgres({ settings: { shared_buffers: '512MB', max_wal_size: '4GB' } }))
  const redis = await started(startRedis())
  const s3 = await started(startS3())
  const temporal = await started(startTemporal())

  const pool = new pg.Pool({ connectionString: postgres.url })
  cleanups.push(() => pool.end())
  say(`making ${rows} rows`)
  await makeRows(pool, rows)

  const stores: Record<string, string> = { local: `file:${join(folder, 'versions')}`, archive: s3.urlOf('bench') }
  const index = { from: TABLE, key: 'id', value: [...COLUMNS] }
  const datasets: ConfigInput['datasets'] = {}
  for (let round = 1; round <= ROUNDS_MAX; round++) {
    stores[`hot${round}`] = redis.url
    datasets[`hot${round}`] = { stores: [`hot${round}`], indexes: { [INDEX]: index } }
  }
  for (const further of ['local', 'archive'])
    datasets[`hotAnd-${further}`] = { stores: ['hot1', further], indexes: { [INDEX]: index } }
  for (const store of ['local', 'archive']) datasets[store] = { stores: [store], indexes: { [INDEX]: index } }
  stores[FRESH] = redis.url
  datasets[FRESH] = {
    stores: [FRESH],
    indexes: { [INDEX]: index },
    schedule: { continuous: CONTINUOUS },
    gates: { drift: { everyMs: 60_000 } },
  }
  const config = configSchema.parse({
    database: postgres.url,
    temporal: { address: temporal.address, namespace: temporal.namespace },
    stores,
    datasets,
  } satisfies ConfigInput)
  const configFile = join(folder, 'snapflip.config.json')
  await writeFile(configFile, JSON.stringify(config))

  await migrate(config.database)
  const client = await pool.connect()
  for (const [dataset, definition] of Object.entries(config.datasets)) {
    for (const [name, declared] of Object.entries(definition.indexes))
      await attach(client, [await resolveSource(client, dataset, name, declared)])
    await applyDefinition(pool, { dataset, definition })
  }
  client.release()

  say('bundling the workflows, starting the worker')
  const bundle = join(folder, 'workflow-bundle.js')
  await bundleWorkflows(bundle)
  // The bucket's credentials reach worker, verify and readers as a user's would: by the environment.
  Object.assign(process.env, s3.env)
  const worker = await startWorker({ configFile, folder, bundle })
  cleanups.push(() => stopWorker(worker))

  const connection = await Connection.connect({ address: temporal.address })
  cleanups.push(() => connection.close())
  const temporalClient = new Client({ connection, namespace: temporal.namespace })
  const plain = new Redis({ host: redis.host, port: redis.port, db: PLAIN_DB })
  cleanups.push(async () => plain.disconnect())
  return {
    rows,
    config,
    pool,
    databaseUrl: (database) => postgres.urlOf(database),
    redisUrl: redis.url,
    redisPort: redis.port,
    plain,
    folder,
    configFile,
    worker: peakOf(worker.pid as number),
    client: temporalClient,
    async refresh(dataset) {
      const begun = performance.now()
      const outcome = await temporalClient.workflow.execute<(request: object) => Promise<RefreshOutcome>>('refresh', {
        workflowId: WORKFLOW_ID.refresh(dataset),
        taskQueue: config.temporal.taskQueue,
        args: [{ dataset, reason: 'bench' }],
      })
      const ms = performance.now() - begun
      if (outcome.status !== 'FLIPPED')
        throw new Error(`Expected ${dataset} to flip, found ${outcome.status}: ${outcome.summary}`)
      say(
        `${dataset} ${outcome.tag}: ${ms.toFixed(0)} ms (${Object.entries(outcome.durationsMs)
          .map(([step, taken]) => `${step} ${taken}`)
          .join(', ')})`,
      )
      return { outcome, ms }
    },
    async connect() {
      const connected = new pg.Client({ connectionString: postgres.url })
      await connected.connect()
      return connected
    },
  }
}

function bundleWorkflows(file: string): Promise<void> {
  const script = fileURLToPath(new URL('../scripts/bundle-workflows.ts', import.meta.url))
  const child = spawn(process.execPath, [script, file], { stdio: 'inherit' })
  return new Promise((resolve, reject) => {
    child.once('close', (code) => (code === 0 ? resolve() : reject(new Error(`bundling ended with exit code ${code}`))))
  })
}

async function startWorker(files: { configFile: string; folder: string; bundle: string }): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('worker.ts', import.meta.url))
  const logFile = join(tmpdir(), 'snapflip-bench-worker.log')
  // SNAPFLIP_BENCH_NODE: flags for the worker's node, such as --cpu-prof.
  const execArgv = (process.env.SNAPFLIP_BENCH_NODE ?? '').split(' ').filter((flag) => flag !== '')
  const child = fork(script, [files.configFile, join(files.folder, 'work'), files.bundle], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    execArgv,
  })
  const log = createWriteStream(logFile)
  for (const stream of [child.stdout, child.stderr]) stream?.pipe(log, { end: false })
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve())
    child.once('close', async (code) =>
      reject(new Error(`the worker ended with exit code ${code}:\n${await readFile(logFile, 'utf8')}`)),
    )
  })
  return child
}

async function stopWorker(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await ended
}

/** Linux alone says how much a process ever had. */
function peakOf(pid: number): BenchWorker {
  return {
    async peakBytes() {
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
      return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024
    },
    async resetPeak() {
      // 5: the peak becomes what the process has now.
      await writeFile(`/proc/${pid}/clear_refs`, '5').catch(() => undefined)
    },
  }
}
