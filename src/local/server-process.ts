import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { GaveUp, waitUntil } from './wait-until.ts'

/** Enough to hold a server's complaint about its own start. */
const LOG_LINES_MAX = 40
/** A server that has not stopped by then is killed. */
const STOP_TIMEOUT_MS = 10_000

export type ServerProcessOptions = {
  /** For messages: "PostgreSQL 18". */
  name: string
  command: string
  args: readonly string[]
  env?: NodeJS.ProcessEnv
  cwd?: string
  /** The account to run under; only root may name another. */
  account?: { uid: number; gid: number } | undefined
  /** Asks for an orderly stop; SIGTERM by default. */
  stopSignal?: NodeJS.Signals
  /** A folder to remove after the server has ended, however it or this process ended. */
  temporaryFolder?: string | undefined
}

export type ServerProcess = {
  readonly pid: number
  /** Resolves as soon as `probe` returns true; throws, with the last log lines, if the server ends or the time is over. */
  ready(probe: () => Promise<boolean>, timeoutMs?: number): Promise<void>
  /** The last lines the server wrote. */
  lastLog(): string
  /** Stops the server and removes its temporary folder. May be called again. */
  stop(): Promise<void>
  /** Sends `signal` and waits for the end; the temporary folder stays. For tests of crashes. */
  kill(signal: NodeJS.Signals): Promise<void>
}

/**
 * Starts a server as a child in a process group of its own (so that Ctrl-C reaches this process alone, which then
 * stops its servers in order).
 *
 * No orphans: a shell of a few hundred KB waits on a pipe that only this process holds. When this process ends in
 * any way, SIGKILL too, the pipe closes, and the shell stops the server and removes its temporary folder.
 */
export async function startServerProcess(options: ServerProcessOptions): Promise<ServerProcess> {
  const { name, command, args, stopSignal = 'SIGTERM', temporaryFolder } = options
  const log: string[] = []
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    ...options.account,
  })
  for (const stream of [child.stdout, child.stderr]) collectLines(stream, log)
  await spawned(child, name)
  const pid = child.pid as number // set once 'spawn' was emitted
  const guard = startGuard(pid, stopSignal, temporaryFolder)
  // Neither the server nor its guard keeps this process alive: when there is nothing else to do, it may end.
  child.unref()
  for (const stream of [child.stdout, child.stderr]) unref(stream)

  const lastLog = () => log.join('\n')
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null
  const kill = async (signal: NodeJS.Signals) => {
    if (!hasEnded()) {
      const ended = once(child, 'exit')
      child.ref()
      child.kill(signal)
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
      await ended
      clearTimeout(timer)
    }
    guard.release()
  }

  const stop = async () => {
    await kill(stopSignal)
    if (temporaryFolder !== undefined) await rm(temporaryFolder, { recursive: true, force: true, maxRetries: 5 })
  }

  return {
    pid,
    lastLog,
    kill,
    stop,
    async ready(probe, timeoutMs = 30_000) {
      try {
        await waitUntil(
          `${name} to answer`,
          async () => {
            if (hasEnded())
              throw new GaveUp(`${name} ended while starting (${child.signalCode ?? `exit code ${child.exitCode}`}).`)
            return (await probe()) || undefined
          },
          { timeoutMs },
        )
      } catch (error) {
        await stop()
        throw new Error(`${error instanceof Error ? error.message : error}\nLast lines of its log:\n${lastLog()}`, {
          cause: error,
        })
      }
    },
  }
}

function spawned(child: ChildProcess, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (cause) => reject(new Error(`${name} could not be started: ${cause.message}`, { cause })))
  })
}

function collectLines(stream: NodeJS.ReadableStream, log: string[]): void {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    log.push(...lines)
    log.splice(0, log.length - LOG_LINES_MAX)
  })
  stream.on('end', () => {
    if (rest !== '') log.push(rest)
  })
}

/** `read` returns true for the line that `release` writes, and false when the pipe closes because its owner is gone. */
const GUARD_SCRIPT = `
read -r line && exit 0
kill -"$2" "$1" 2>/dev/null
n=0; while kill -0 "$1" 2>/dev/null && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
kill -KILL "$1" 2>/dev/null
[ -n "$3" ] && rm -rf -- "$3"
exit 0`

function startGuard(pid: number, signal: NodeJS.Signals, temporaryFolder: string | undefined): { release(): void } {
  const args = ['-c', GUARD_SCRIPT, 'snapflip-guard', String(pid), signal.replace('SIG', ''), temporaryFolder ?? '']
  const guard = spawn('/bin/sh', args, { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  guard.on('error', () => {}) // without a guard the server still stops with `stop`
  guard.stdin.on('error', () => {})
  guard.unref()
  unref(guard.stdin)
  return { release: () => guard.stdin.end('released\n') }
}

/** Pipes to children are sockets; their type does not say so. */
function unref(stream: NodeJS.ReadableStream | NodeJS.WritableStream): void {
  const socket: { unref?: () => void } = stream as { unref?: () => void }
  socket.unref?.()
}
