import { join } from 'node:path'
import { Client, Connection } from '@temporalio/client'
import type pg from 'pg'
import { onTestFinished } from 'vitest'
import type { ChangeDeps } from '../../activities/change-repaired.ts'
import type { Deps } from '../../activities/deps.ts'
import { holdDataset, resumeDataset } from '../../activities/hold.ts'
import { type Config, type ConfigInput, configSchema } from '../../schemas/config.ts'
import type { Pointer } from '../../schemas/pointer.ts'
import type { RefreshOutcome, RefreshRequest, RollbackOutcome, RollbackRequest } from '../../schemas/refresh.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { attach } from '../../src/changelog/capture.ts'
import { resolveSource } from '../../src/changelog/definition.ts'
import { open, type Reader } from '../../src/index.ts'
import { Alerts } from '../../src/observe/alerts.ts'
import { createLog } from '../../src/observe/log.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { openStore } from '../../src/stores/open.ts'
import type { Store } from '../../src/stores/ports.ts'
import { quietTemporalRuntime, type RunningWorker, startWorker, type WorkerOptions } from '../../src/worker.ts'
import { type Between, faultyStore } from '../stores/faults.ts'
import { testDatabase, testFolder, testTemporal, uniqueName, workflowBundle } from './services.ts'
import { NO_LOOKS_MS, type ProcessFault, WorkerProcess } from './worker-process.ts'

/** A dataset of its own on real services: database, store, Temporal task queue, and a worker when asked for. */
export interface World {
  dataset: string
  config: Config
  /** Connects as superuser. */
  pool: pg.Pool
  workDir: string
  /** Lines that the worker logged. */
  logged: Array<Record<string, unknown>>
  /** Makes the database what the definition says; again after `definition` changed. */
  apply(): Promise<void>
  /** Starts a worker in a process of its own; it ends with the test. */
  workerProcess(fault?: ProcessFault): Promise<WorkerProcess>
  /** Starts a worker in this process; it ends with the test. */
  worker(decorate?: (deps: Deps) => Deps, options?: WorkerOptions): Promise<RunningWorker>
  client: Client
  refresh(request?: Partial<RefreshRequest>): Promise<RefreshOutcome>
  /** The failure of a refresh that must fail. */
  refreshFailure(request?: Partial<RefreshRequest>): Promise<unknown>
  rollback(request?: Partial<RollbackRequest>): Promise<RollbackOutcome>
  /** For what a person's command does. */
  changeDeps: ChangeDeps
  hold(reason?: string): Promise<void>
  resume(): Promise<void>
  store(name?: string): Promise<Store>
  pointer(name?: string): Promise<Pointer>
  reader(): Promise<Reader>
}

export interface WorldOptions {
  /** SQL run before anything else: tables and rows. */
  schema: string
  dataset: Omit<NonNullable<ConfigInput['datasets'][string]>, 'stores'>
  /** URL of the store; a folder without it. */
  storeUrl?: string
  /** URLs of the stores that it is published to besides, by name. */
  furtherStores?: Record<string, string>
  version?: '15' | '18'
  /** A database of its own server, migrated, which may be stopped; without it one of the run's. */
  database?: { url: string; pool: pg.Pool }
  /** A Temporal of its own, which may be stopped; without it that of the run. */
  temporal?: { address: string; namespace: string }
  /** Of the test's context: concurrent tests have no other. */
  onFinished?: (close: () => Promise<void>) => void
}

/** Everything ends with the test that made it. */
export async function makeWorld(options: WorldOptions): Promise<World> {
  const database = options.database ?? (await testDatabase({ version: options.version ?? '18' }))
  const temporal = { ...(await testTemporal()), ...options.temporal }
  const folder = await testFolder()
  const dataset = `d${uniqueName()}`
  const storeUrl = options.storeUrl ?? `file:${join(folder.path, 'versions')}`
  const further = options.furtherStores ?? {}
  const config = configSchema.parse({
    database: database.url,
    temporal,
    stores: { main: storeUrl, ...further },
    datasets: {
      [dataset]: { retireAfterMs: 0, ...options.dataset, stores: ['main', ...Object.keys(further)] },
    },
  } satisfies ConfigInput)
  await database.pool.query(options.schema)

  const closers: Array<() => Promise<unknown>> = []
  const onFinished = options.onFinished ?? onTestFinished
  onFinished(async () => {
    for (const close of closers.reverse()) await close()
  })
  const connection = await Connection.connect({ address: temporal.address })
  closers.push(() => connection.close())
  const client = new Client({ connection, namespace: temporal.namespace })
  const logged: Array<Record<string, unknown>> = []
  const log = createLog({
    level: 'debug',
    destination: { write: (line: string) => void logged.push(JSON.parse(line)) },
  })

  const start = <T>(type: 'refresh' | 'rollback', request: object) =>
    client.workflow.execute<(request: object) => Promise<T>>(type, {
      workflowId: WORKFLOW_ID[type](dataset),
      taskQueue: temporal.taskQueue,
      args: [{ dataset, ...request }],
    })
  const opened = async <T extends { close(): Promise<void> }>(opening: Promise<T>): Promise<T> => {
    const resource = await opening
    closers.push(() => resource.close())
    return resource
  }
  const stores = new Map<string, Promise<Store>>()
  const { raise } = new Alerts({ pool: database.pool, config: config.alerts, log })
  const changeDeps: ChangeDeps = {
    pool: database.pool,
    store: () => world.store(),
    furtherStores: () =>
      Promise.all(Object.keys(further).map(async (name) => ({ name, store: await world.store(name) }))),
    log,
    alert: raise,
  }
  const world: World = {
    dataset,
    config,
    pool: database.pool,
    workDir: join(folder.path, 'work'),
    logged,
    client,
    changeDeps,
    async apply() {
      const definition = world.config.datasets[dataset]
      if (definition === undefined) throw new Error(`the definition has no ${dataset}`)
      const connected = await database.pool.connect()
      try {
        for (const [name, index] of Object.entries(definition.indexes)) {
          await attach(connected, [await resolveSource(connected, dataset, name, index)])
        }
      } finally {
        connected.release()
      }
      await applyDefinition(database.pool, { dataset, definition })
    },
    async workerProcess(fault) {
      const process = new WorkerProcess({
        config: world.config,
        workDir: world.workDir,
        workflowBundle: await workflowBundle(),
        ...(fault ? { fault } : {}),
      })
      closers.push(() => process.end())
      await process.polls()
      return process
    },
    async worker(decorate, options = {}) {
      quiet()
      const worker = await startWorker(world.config, {
        log,
        workDir: world.workDir,
        workflowBundle: await workflowBundle(),
        ...(decorate ? { decorate } : {}),
        lookEveryMs: NO_LOOKS_MS,
        ...options,
      })
      closers.push(async () => {
        worker.shutdown()
        await worker.run
      })
      return worker
    },
    refresh: (request = {}) => start<RefreshOutcome>('refresh', request),
    async refreshFailure(request = {}) {
      const outcome = await start<RefreshOutcome>('refresh', request).catch((error: unknown) => ({ error }))
      if ('error' in outcome) return outcome.error
      throw new Error(`Expected the refresh to fail, found it ${outcome.status}: ${outcome.summary}`)
    },
    rollback: (request = {}) => start<RollbackOutcome>('rollback', { reason: 'a test', ...request }),
    async hold(reason = 'a test') {
      await holdDataset(changeDeps, { dataset, by: 'test', reason })
    },
    async resume() {
      await resumeDataset(changeDeps, { dataset, by: 'test', reason: 'a test' })
    },
    store: (name = 'main') => {
      const known = stores.get(name)
      if (known !== undefined) return known
      const opening = opened(openStore(world.config.stores[name] as string, { dataset }))
      stores.set(name, opening)
      return opening
    },
    async pointer(name) {
      const read = await (await world.store(name)).pointer.read()
      if (read === null) throw new Error(`${dataset} has no pointer`)
      return read.pointer
    },
    reader: () => opened(open(storeUrl, dataset, { followLagMs: 50 })),
  }
  await world.apply()
  return world
}

/** For `worker`: puts faults, or whatever a test does, around every call of the store. */
export function around(between: Between): (deps: Deps) => Deps {
  return (deps) => ({ ...deps, store: async (dataset) => faultyStore(await deps.store(dataset), between) })
}

/** The same around a further store. */
export function aroundFurther(name: string, between: Between): (deps: Deps) => Deps {
  return (deps) => ({
    ...deps,
    furtherStores: async (dataset) =>
      (await deps.furtherStores(dataset)).map((further) =>
        further.name === name ? { name, store: faultyStore(further.store, between) } : further,
      ),
  })
}

let isQuiet = false
/** Temporal's own log lines would bury the test's. */
export function quiet(): void {
  if (!isQuiet) quietTemporalRuntime(createLog({ level: 'silent' }))
  isQuiet = true
}
