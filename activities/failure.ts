import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity'
import { isSnapflipError } from '../src/core/errors.ts'

/** Well inside the 10 s after which the server gives a worker up. */
const BEAT_MS = 2_000
/** Of a chain of causes in the log. */
const CAUSES_MAX = 8

/**
 * Runs an activity's work and translates what it throws: a SnapflipError becomes an application failure with its code as type,
 * non-retryable unless time alone can mend it. Anything else is a fault of ours or of the network, and is retried. For as long as the work goes
 * on it heartbeats with the last progress told: a killed worker is noticed soon, whatever it was doing. The signal aborts on cancellation.
 */
export async function asActivity<T>(
  work: (tell: (progress: string) => void, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const context = Context.current()
  let last = 'started'
  const timer = setInterval(() => context.heartbeat({ progress: last }), BEAT_MS)
  try {
    return await work((progress) => {
      last = progress
    }, context.cancellationSignal)
  } catch (error) {
    context.log.warn('an activity failed', { causes: causesOf(error) })
    if (context.cancellationSignal.aborted) throw new CancelledFailure('the activity was cancelled')
    throw translated(error)
  } finally {
    clearInterval(timer)
  }
}

/** Without its cause: Temporal keeps the whole chain in the workflow's history, and what PostgreSQL says of a row quotes it. */
function translated(error: unknown): unknown {
  if (error instanceof ApplicationFailure || error instanceof CancelledFailure) return error
  if (isSnapflipError(error)) {
    return ApplicationFailure.create({
      type: error.code,
      message: error.message,
      nonRetryable: !error.retryable,
      details: [error.details],
    })
  }
  const { name, message } = error instanceof Error ? error : new Error(String(error))
  const sqlstate = sqlstateOf(error)
  return ApplicationFailure.retryable(
    sqlstate === null ? message : `PostgreSQL refused a statement (${sqlstate}).`,
    name,
  )
}

/** Name, code and place of an error and of each of its causes, for the log of this worker: no message but ours. */
function causesOf(error: unknown): string[] {
  const causes: string[] = []
  for (let at = error; at instanceof Error && causes.length < CAUSES_MAX; at = at.cause) {
    const code = sqlstateOf(at) ?? (isSnapflipError(at) ? `${at.code}: ${at.message}` : '')
    const place = at.stack?.split('\n').find((line) => /^ +at /.test(line)) ?? ''
    causes.push(`${at.name} ${code}${place.trimEnd()}`)
  }
  return causes
}

/** The code of an error that PostgreSQL sent; null for any other. */
function sqlstateOf(error: unknown): string | null {
  if (!(error instanceof Error) || !('severity' in error) || !('code' in error)) return null
  return String(error.code)
}

/** For first steps. Waiting until another refresh or drill is over is the caller's to decide, not a retry policy's. */
export async function notBeside<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!isSnapflipError(error, 'REFRESH_RUNNING')) throw error
    throw ApplicationFailure.nonRetryable(error.message, error.code, error.details)
  }
}
