import { writeSync } from 'node:fs'
import { createLog } from '../../src/observe/log.ts'
import { quietTemporalRuntime, startWorker } from '../../src/worker.ts'
import { type Between, faultyStore } from '../stores/faults.ts'
import { NO_LOOKS_MS, OPTIONS_VARIABLE, type WorkerProcessOptions } from './worker-process.ts'

const options = JSON.parse(process.env[OPTIONS_VARIABLE] ?? '') as WorkerProcessOptions
const { fault } = options
let times = 0
/** SIGHUP arms it, once the versions that came before are made. (Temporal's runtime shuts down at SIGUSR2.) */
let isArmed = false
process.on('SIGHUP', () => {
  isArmed = true
  write('{"msg":"armed"}\n')
})

/** Written at once: what comes next may be the end of this process. */
const write = (line: string) => void writeSync(1, line)

function happens(): void {
  write(`${JSON.stringify({ fault })}\n`)
  process.kill(process.pid, fault?.how)
}

const between: Between = {
  async run(operation, call) {
    const isHere = isArmed && operation === fault?.at && ++times === (fault.nth ?? 1)
    if (isHere && fault?.when === 'before') happens()
    try {
      return await call()
    } finally {
      if (isHere && fault?.when === 'after') happens()
      // A paused worker that went on: what it did then was refused or made.
      if (isHere) write('{"fault":"over"}\n')
    }
  },
}

const log = createLog({ level: 'debug', destination: { write } })
quietTemporalRuntime(createLog({ level: 'silent' }))
await startWorker(options.config, {
  log,
  workDir: options.workDir,
  workflowBundle: options.workflowBundle,
  lookEveryMs: NO_LOOKS_MS,
  decorate: (deps) => ({ ...deps, store: async (dataset) => faultyStore(await deps.store(dataset), between) }),
  decorateActivities: (activities) =>
    Object.fromEntries(
      Object.entries(activities).map(([name, run]) => [
        name,
        async (...args: unknown[]) =>
          between.run(`activity.${name}` as never, () => (run as (...args: unknown[]) => Promise<unknown>)(...args)),
      ]),
    ) as typeof activities,
})
log.info('worker polls')
