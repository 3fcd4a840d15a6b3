import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity'
import { isSnapflipError } from '../src/core/errors.ts'

/**
 * Runs an activity's work and translates what it throws: a SnapflipError becomes an application failure with its code as type,
 * non-retryable unless time alone can mend it. Anything else is a fault of ours or of the network, and is retried.
 */
export async function asActivity<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (Context.current().cancellationSignal.aborted)
      throw new CancelledFailure('the activity was cancelled', [], error as Error)
    if (!isSnapflipError(error)) throw error
    throw ApplicationFailure.create({
      type: error.code,
      message: error.message,
      nonRetryable: !error.retryable,
      details: [error.details],
      cause: error,
    })
  }
}

/** Heartbeats on a timer, and with the last progress told, for as long as the work goes on. The signal aborts on cancellation. */
export async function heartbeating<T>(
  work: (tell: (progress: string) => void, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const context = Context.current()
  let last = 'started'
  const beat = () => context.heartbeat({ progress: last })
  // Well inside the 10 s after which the server gives a worker up; the SDK throttles.
  const timer = setInterval(beat, 2_000)
  try {
    return await work((progress) => {
      last = progress
    }, context.cancellationSignal)
  } finally {
    clearInterval(timer)
  }
}
