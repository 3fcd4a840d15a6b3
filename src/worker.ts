import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  NativeConnection,
  Runtime,
  Worker,
  type WorkerOptions as WorkerOptionsOfTemporal,
  type WorkflowBundleOption,
} from '@temporalio/worker'
import type { Deps } from '../activities/deps.ts'
import { datasetOf, storeUrl } from '../activities/deps.ts'
import { endDeadCanary } from '../activities/end-canary.ts'
import { type Activities, createActivities } from '../activities/index.ts'
import { mendStore } from '../activities/mend-store.ts'
import type { Config } from '../schemas/config.ts'
import { connectBuilder } from './changelog/session.ts'
import { SnapflipError } from './core/errors.ts'
import { buildsQueue, watchesQueue } from './core/task-queues.ts'
import type { GateFunctions } from './gates/user-function.ts'
import { Alerts } from './observe/alerts.ts'
import { ExpiryWatch } from './observe/expiry-watch.ts'
import { createLog, type Logger } from './observe/log.ts'
import { Measurements } from './observe/measurements.ts'
import { type MetricsAddress, serveMetrics } from './observe/metrics-server.ts'
import { StoreWatch } from './observe/store-watch.ts'
import { openTraces } from './observe/traces.ts'
import { WorkerMetrics } from './observe/worker-metrics.ts'
import { connectRegistry } from './registry/connect.ts'
import { openStore } from './stores/open.ts'
import type { Store } from './stores/ports.ts'
import { backlogOf } from './temporal/backlog.ts'
import { temporalTarget } from './temporal/connection.ts'
import { isRunning } from './temporal/is-running.ts'
import { registerSearchAttributes } from './temporal/search-attributes.ts'
import { startBake } from './temporal/start-bake.ts'
import { starterOf } from './temporal/starter.ts'

/** Bound by CPU and memory. */
const BUILDS_MAX = 2
/** They wait most of the time, each for a dataset: in continuous mode, in a canary, in a bake. */
const WATCHES_MAX = 200
/** All others wait for the store or the database most of the time: rollbacks, flips, reading back, sweeping. */
const ACTIVITIES_MAX = 16

export interface WorkerOptions {
  log?: Logger
  /** As `loadConfig` gives them. */
  functions?: GateFunctions
  workDir?: string
  /** A bundle of the workflows made beforehand (scripts/bundle-workflows.ts); by default the package's own, where it has one. */
  workflowBundle?: string
  /** Decorates what activities use of the world; tests put their faults in here. */
  decorate?: (deps: Deps) => Deps
  decorateActivities?: (activities: Activities) => Activities
  /** Between two looks at the stores. */
  lookEveryMs?: number
  /** Where to serve metrics; nowhere without it. */
  metrics?: MetricsAddress
  /** Collector of OpenTelemetry (OTLP over HTTP) that is sent the spans; none are made without it. */
  traces?: string
}

/** A running worker: the composition root. `run` resolves when it has shut down, after `shutdown` or a signal. */
export interface RunningWorker {
  run: Promise<void>
  workDir: string
  /** Null: none are served. */
  metricsUrl: string | null
  shutdown(): void
}

/** Connects everything, registers search attributes and starts polling. Throws before it polls if the registry or Temporal is not there. */
export async function startWorker(config: Config, options: WorkerOptions = {}): Promise<RunningWorker> {
  const log = options.log ?? createLog()
  const target = temporalTarget(config.temporal)
  const pool = await connectRegistry(config.database)
  const stores = new Map<string, Promise<Store>>()
  const opened = (dataset: string, name = datasetOf(config, dataset).stores[0]): Promise<Store> => {
    const key = `${dataset}/${name}`
    const known = stores.get(key)
    if (known !== undefined) return known
    const opening = openStore(storeUrl(config, dataset, name), { dataset })
    stores.set(key, opening)
    // A store that could not be opened is tried anew by the next activity.
    opening.catch(() => stores.delete(key))
    return opening
  }
  const alerts = new Alerts({ pool, config: config.alerts, log })
  const metrics = new WorkerMetrics(Object.keys(config.datasets))
  const closeStores = async () => {
    for (const store of stores.values()) await (await store).close()
  }
  const closers: Array<() => Promise<unknown>> = [closeStores, () => alerts.close(), () => pool.end()]
  try {
    const traces = options.traces === undefined ? null : await openTraces(options.traces)
    if (traces !== null) closers.push(() => traces.close())
    const connection = await NativeConnection.connect(target.connection).catch((error: unknown) => {
      throw new SnapflipError(
        'TEMPORAL_UNREACHABLE',
        `Temporal at ${target.address} does not answer. Start it (\`snapflip up\` does), or correct temporal.address.`,
        { address: target.address },
        error,
      )
    })
    closers.unshift(() => connection.close())
    const searchable = await registerSearchAttributes(connection, target.namespace, log)

    const plain: Deps = {
      config,
      pool,
      builder: () => connectBuilder(config.database),
      starter: (workflowId, runId) => starterOf(connection, target.namespace, { workflowId, runId }),
      isRunning: (workflowId, runId) =>
        isRunning(connection, target.namespace, { workflowId, ...(runId === undefined ? {} : { runId }) }),
      startBake: (bake) => startBake(connection, { ...target, taskQueue: config.temporal.taskQueue }, bake),
      store: (dataset) => opened(dataset),
      furtherStores: (dataset) =>
        Promise.all(
          datasetOf(config, dataset)
            .stores.slice(1)
            .map(async (name) => ({ name, store: await opened(dataset, name) })),
        ),
      log,
      functions: options.functions ?? new Map(),
      alert: metrics.countAlerts(alerts.raise),
      workDir: options.workDir ?? join(tmpdir(), 'snapflip'),
      searchable,
    }
    const workers: Worker[] = []
    const measurements = new Measurements({
      config,
      pool,
      store: opened,
      backlog: () => backlogOf(connection, target.namespace, config.temporal.taskQueue),
      metrics,
      log,
    })
    const served =
      options.metrics &&
      (await serveMetrics(options.metrics, {
        contentType: metrics.registry.contentType,
        isHealthy: () => workers.length > 0 && workers.every((worker) => worker.getState() === 'RUNNING'),
        metrics: async () => {
          await measurements.measure()
          return metrics.registry.metrics()
        },
      }))
    if (served) closers.unshift(() => served.close())
    const deps = options.decorate?.(plain) ?? plain
    const expiry = new ExpiryWatch(plain)
    const watch = new StoreWatch({
      ...deps,
      mend: (finding, signal) => mendStore(deps, finding, signal),
      endDeadCanary: (dataset, signal) => endDeadCanary(deps, dataset, signal),
      ...(options.lookEveryMs === undefined ? {} : { everyMs: options.lookEveryMs }),
    })
    closers.unshift(
      () => expiry.close(),
      () => watch.close(),
    )
    const plainActivities = metrics.around(createActivities(deps))
    const activities = options.decorateActivities?.(plainActivities) ?? plainActivities
    const { taskQueue } = config.temporal
    const common: WorkerOptionsOfTemporal = {
      connection,
      namespace: target.namespace,
      taskQueue,
      activities,
      // By default a heartbeat may be held back for 8 s: too close to the 10 s after which a worker counts as dead, and a
      // cancellation, which comes as the answer to one, would be heard that late.
      maxHeartbeatThrottleInterval: '2 seconds',
      shutdownGraceTime: '10 seconds',
      ...(traces === null ? {} : { interceptors: traces.interceptors, sinks: traces.sinks }),
    }
    workers.push(
      await Worker.create({
        ...common,
        // With traces the workflows have interceptors, which no bundle made beforehand has: it is made when the worker starts.
        ...(traces === null ? workflows(options.workflowBundle) : { workflowsPath: workflowsPath() }),
        maxConcurrentActivityTaskExecutions: ACTIVITIES_MAX,
      }),
      await Worker.create({
        ...common,
        taskQueue: buildsQueue(taskQueue),
        maxConcurrentActivityTaskExecutions: BUILDS_MAX,
      }),
      await Worker.create({
        ...common,
        taskQueue: watchesQueue(taskQueue),
        maxConcurrentActivityTaskExecutions: WATCHES_MAX,
      }),
    )
    alerts.start()
    expiry.start()
    watch.start()
    const shutdown = () => {
      for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown()
    }
    // One that fails takes the other along: half a worker would leave refreshes waiting.
    const runs = workers.map((worker) => worker.run().finally(shutdown))
    const run = Promise.allSettled(runs).then(async () => {
      for (const close of closers) await close()
      await Promise.all(runs)
    })
    return { run, workDir: deps.workDir, metricsUrl: served?.url ?? null, shutdown }
  } catch (error) {
    for (const close of closers) await close()
    throw error
  }
}

/** The bundle built with the package where there is one; from source, Temporal bundles when the worker starts. */
function workflows(given: string | undefined): { workflowBundle: WorkflowBundleOption } | { workflowsPath: string } {
  const bundle = given ?? fileURLToPath(new URL('../workflow-bundle.js', import.meta.url))
  if (given !== undefined || existsSync(bundle)) return { workflowBundle: { codePath: bundle } }
  return { workflowsPath: workflowsPath() }
}

function workflowsPath(): string {
  const here = import.meta.url.endsWith('.ts') ? '../workflows/index.ts' : '../workflows/index.js'
  return fileURLToPath(new URL(here, import.meta.url))
}

/** Temporal's own log lines go into ours, warnings and up. Once a process. */
export function quietTemporalRuntime(log: Logger): void {
  Runtime.install({
    logger: {
      log: (_level, message, meta) => log.debug({ ...meta }, message),
      trace: () => undefined,
      debug: () => undefined,
      info: (message, meta) => log.debug({ ...meta }, message),
      warn: (message, meta) => log.warn({ ...meta }, message),
      error: (message, meta) => log.error({ ...meta }, message),
    },
    telemetryOptions: { logging: { filter: 'WARN', forward: {} } },
  })
}
