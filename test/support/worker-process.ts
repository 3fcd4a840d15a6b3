import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Config } from '../../schemas/config.ts'

/** Where a worker process sends itself a signal: once, at the `nth` time it comes there. */
export interface ProcessFault {
  /** An activity (`activity.build`) or a call of a store's port (`writer.finish`). */
  at: string
  when: 'before' | 'after'
  nth?: number
  how: 'SIGKILL' | 'SIGSTOP'
}

/** What the process is told, in its environment. */
export interface WorkerProcessOptions {
  config: Config
  workDir: string
  workflowBundle: string
  fault?: ProcessFault
}

/** A worker that looks at the stores by itself would repair what a test wants to be found by something else. */
export const NO_LOOKS_MS = 2 ** 31 - 1

export const OPTIONS_VARIABLE = 'SNAPFLIP_TEST_WORKER'
const MAIN = fileURLToPath(new URL('./worker-process-main.ts', import.meta.url))

/** A worker in a process of its own, which tests may kill, stop and continue. */
export class WorkerProcess {
  readonly #child: ChildProcess
  readonly logged: Array<Record<string, unknown>> = []
  readonly #ended: Promise<string>
  readonly #watchers = new Set<() => void>()
  #end: string | null = null

  constructor(options: WorkerProcessOptions) {
    this.#child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN], {
      env: { ...process.env, [OPTIONS_VARIABLE]: JSON.stringify(options) },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    createInterface({ input: this.#child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      this.logged.push(JSON.parse(line) as Record<string, unknown>)
      for (const watch of this.#watchers) watch()
    })
    this.#ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.#end = signal ?? `${code}`
        for (const watch of this.#watchers) watch()
        resolve(this.#end)
      })
    })
  }

  /** Resolves with the first logged line that fits, past or to come; rejects when the process ends without one. */
  line(fits: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.logged.find(fits)
        if (found === undefined && this.#end === null) return
        this.#watchers.delete(look)
        if (found !== undefined) resolve(found)
        else reject(new Error(`the worker process ended (${this.#end}) before it logged what was waited for`))
      }
      this.#watchers.add(look)
      look()
    })
  }

  polls(): Promise<unknown> {
    return this.line((line) => line.msg === 'worker polls')
  }

  /** From here on its fault may happen. */
  async arm(): Promise<void> {
    this.signal('SIGHUP')
    await this.line((line) => line.msg === 'armed')
  }

  /** Resolves when its fault is about to happen. */
  fault(): Promise<unknown> {
    return this.line((line) => line.fault !== undefined)
  }

  /** How it ended: a signal's name, or an exit code. */
  ended(): Promise<string> {
    return this.#ended
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async end(): Promise<void> {
    if (this.#end !== null) return
    this.signal('SIGCONT')
    this.signal('SIGKILL')
    await this.#ended
  }
}
