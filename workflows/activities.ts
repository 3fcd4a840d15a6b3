import { proxyActivities } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'

/**
 * Retries: a failure is retried while only time can mend it; what needs another input or another world is thrown
 * non-retryable by the activity itself (`activities/failure.ts`). Time-outs bound how long a dead worker goes unnoticed.
 */
const retry = { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '30s' } as const

/** Questions and single writes: seconds at most. */
export const quick = proxyActivities<Activities>({
  startToCloseTimeout: '1 minute',
  scheduleToCloseTimeout: '15 minutes',
  retry,
})

/** Work in proportion to the data: hours are legal, silence is not. */
export const long = proxyActivities<Activities>({
  startToCloseTimeout: '24 hours',
  // A killed worker is noticed after this long; the SDK sends a heartbeat at least every 2 s (src/worker.ts).
  heartbeatTimeout: '10 seconds',
  retry: { ...retry, maximumAttempts: 20 },
  // Wait for a cancelled activity to clean up after itself before compensating.
  cancellationType: 'WAIT_CANCELLATION_COMPLETED',
})
