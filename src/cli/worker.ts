import type { Command } from 'commander'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  workDir?: string
}

export function worker(program: Command): void {
  verb(program, {
    usage: 'worker',
    summary: 'run refreshes and rollbacks until SIGINT or SIGTERM; any number of workers may run',
    examples: [
      ['snapflip worker', 'logs to stderr, a JSON line a step'],
      ['snapflip worker --work-dir /var/lib/snapflip', 'keeps unfinished builds there'],
    ],
  })
    .option('--work-dir <folder>', 'where builds keep their temporary files; a retry on this machine goes on from them')
    .action(act<Options>(run))
}

async function run(session: Session, options: Options): Promise<Answer> {
  const { config, file } = await session.loaded()
  await session.registry()
  await runWorker(config, file, options)
  return { json: { stopped: true }, text: '' }
}

/** Runs a worker until a signal ends it; it finishes or hands back what it is doing first. */
export async function runWorker(
  config: import('../../schemas/config.ts').Config,
  file: string,
  { workDir }: Options,
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
  const running = await startWorker(config, { log, ...(workDir === undefined ? {} : { workDir }) })
  log.info(
    { config: file, taskQueue: config.temporal.taskQueue, datasets: Object.keys(config.datasets) },
    'worker polls',
  )
  await running.run
  log.info('worker stopped')
}
