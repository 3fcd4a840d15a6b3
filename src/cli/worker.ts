import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { SnapflipError } from '../core/errors.ts'
import type { LoadedConfig } from '../load-config.ts'
import type { Logger } from '../observe/log.ts'
import { type MetricsAddress, parseMetricsAddress } from '../observe/metrics-server.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

/** The health check of docker-compose.yml waits for four of them. */
const ALIVE_MS = 15_000

interface Options extends CommonOptions {
  workDir?: string
  metrics?: MetricsAddress
  traces?: string
}

export function worker(program: Command): void {
  verb(program, {
    usage: 'worker',
    summary: 'run refreshes and rollbacks until SIGINT or SIGTERM; any number of workers may run',
    examples: [
      ['snapflip worker', 'logs to stderr, a JSON line a step'],
      ['snapflip worker --work-dir /var/lib/snapflip', 'keeps unfinished builds there'],
      ['snapflip worker --metrics 9464', 'serves metrics to Prometheus on this machine, see docs/metrics.md'],
    ],
  })
    .option('--work-dir <folder>', 'where builds keep their temporary files; a retry on this machine goes on from them')
    .option(
      '--metrics <port>',
      'serves /metrics and /healthz there, for this machine alone; 0.0.0.0:9464 for others too',
      parseMetricsAddress,
    )
    .option('--traces <url>', 'sends OpenTelemetry traces there, by OTLP over HTTP; see docs/metrics.md', httpUrl)
    .action(act<Options>(run))
}

function httpUrl(text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text
  throw new SnapflipError(
    'USAGE',
    `Expected --traces to be a URL of http or https such as http://localhost:4318/v1/traces, found ${JSON.stringify(text)}.`,
  )
}

async function run(session: Session, options: Options): Promise<Answer> {
  const loaded = await session.loaded()
  await session.registry()
  await runWorker(loaded, options)
  return { json: { stopped: true }, text: '' }
}

/** Runs a worker until a signal ends it; it finishes or hands back what it is doing first. */
export async function runWorker(
  { config, functions, file }: LoadedConfig,
  { workDir, metrics, traces }: Options,
): Promise<void> {
  const [{ startWorker, quietTemporalRuntime }, { createLog }, { temporalTarget }] = await Promise.all([
    import('../worker.ts'),
    import('../observe/log.ts'),
    import('../temporal/connection.ts'),
  ])
  // Refuses a wrong profile before Temporal's runtime runs: only the end of a worker ends that, and the process with it.
  temporalTarget(config.temporal)
  const log = createLog()
  quietTemporalRuntime(log)
  const running = await startWorker(config, {
    log,
    functions,
    ...(workDir === undefined ? {} : { workDir }),
    ...(metrics === undefined ? {} : { metrics }),
    ...(traces === undefined ? {} : { traces }),
  })
  log.info(
    {
      config: file,
      taskQueue: config.temporal.taskQueue,
      datasets: Object.keys(config.datasets),
      metrics: running.metricsUrl,
    },
    'worker polls',
  )
  const alive = keepAlive(running.workDir, log)
  await running.run.finally(() => clearInterval(alive))
  log.info('worker stopped')
}

/**
 * Touches the file `alive` in the work folder for as long as the worker polls: whoever asks for its health pays nothing for it, and does not take
 * a fault of a dataset or a store, which no restart mends, for one of the worker.
 */
function keepAlive(workDir: string, log: Logger): NodeJS.Timeout {
  const beat = async () => {
    await mkdir(workDir, { recursive: true })
    await writeFile(join(workDir, 'alive'), '')
  }
  const told = (err: unknown) => log.warn({ err, workDir }, 'the sign of life could not be written')
  beat().catch(told)
  return setInterval(() => void beat().catch(told), ALIVE_MS)
}
