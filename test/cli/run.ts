import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

export interface Ran {
  code: number
  stdout: string
  stderr: string
}

export interface RunOptions {
  cwd?: string
  env?: Record<string, string | undefined>
  signal?: AbortSignal
}

/** The command line as a user runs it: a process of its own, without a terminal. */
export function snapflip(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return startSnapflip(args, options).ended
}

/** As `snapflip`, for verbs that go on: `kill` and then await `ended`. */
export function startSnapflip(args: readonly string[], { cwd, env }: RunOptions = {}) {
  const child = spawn(process.execPath, [main, ...args], {
    cwd,
    // Vitest's own settings would reach Node's flags.
    env: { ...process.env, NODE_OPTIONS: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ran: Ran = { code: -1, stdout: '', stderr: '' }
  child.stdout.on('data', (text) => {
    ran.stdout += text
  })
  child.stderr.on('data', (text) => {
    ran.stderr += text
  })
  const ended = new Promise<Ran>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ ...ran, code: code ?? -1 }))
  })
  return { ended, seen: ran, kill: (signal: NodeJS.Signals) => child.kill(signal) }
}

/** The document of --json; fails where stdout is anything else. */
export function json<T = Record<string, unknown>>({ stdout, stderr, code }: Ran): T {
  try {
    return JSON.parse(stdout) as T
  } catch (cause) {
    throw new Error(`Expected one JSON document on stdout (exit code ${code}), found:\n${stdout}\n${stderr}`, { cause })
  }
}
