import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity'
import { isSnapflipError } from '../src/core/errors.ts'

/** Well inside the 10 s after which the server gives a worker up. */
const BEAT_MS = 2_000

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
    if (context.cancellationSignal.aborted) throw new CancelledFailure('the activity was cancelled', [], error as Error)
    if (!isSnapflipError(error)) throw error
    throw ApplicationFailure.create({
      type: error.code,
      message: error.message,
      nonRetryable: !error.retryable,
      details: [error.details],
      cause: error,
    })
  } finally {
    clearInterval(timer)
  }
}
