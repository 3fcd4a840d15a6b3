import { proxyActivities, workflowInfo } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import { buildsQueue, watchesQueue } from '../src/core/task-queues.ts'

/**
 * Retries: a failure is retried while only time can mend it; what needs another input or another world is thrown
 * non-retryable by the activity itself (`activities/failure.ts`). Time-outs bound how long a dead worker goes unnoticed.
 */
const retry = { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '30s' } as const

// A killed worker is noticed after this long; the SDK sends a heartbeat at least every 2 s (src/worker.ts).
const heartbeatTimeout = '10 seconds'
// A cancelled activity cleans up after itself before anything is compensated.
const cancellationType = 'WAIT_CANCELLATION_COMPLETED'

/** Questions and single writes of the registry: seconds at most; a minute covers waiting for its locks. */
export const quick = proxyActivities<Activities>({
  startToCloseTimeout: '1 minute',
  scheduleToCloseTimeout: '15 minutes',
  heartbeatTimeout,
  retry,
  cancellationType,
})

/**
 * What changes the pointer and has to be seen through. A store that lost something is repaired on the way, which reads every block: cut off by the
 * clock it would begin again for ever. So what is bounded is the attempts; these make about a quarter of an hour of trying where nothing answers.
 */
export const patient = proxyActivities<Activities>({
  startToCloseTimeout: '24 hours',
  heartbeatTimeout,
  retry: { ...retry, maximumAttempts: 35 },
  cancellationType,
})

/**
 * First steps: a person waits for them, and nothing that readers see has begun. A store or database that does not answer is told after about
 * half a minute of trying, instead of being waited for; starting again costs nothing. Counted in attempts, not in time: repairing a store that
 * lost something is part of them, and may take as long as it takes.
 */
export const first = proxyActivities<Activities>({
  startToCloseTimeout: '24 hours',
  heartbeatTimeout,
  retry: { ...retry, maximumAttempts: 7 },
  cancellationType,
})

/**
 * What follows a first step that failed, or is asked before one: the same may be down still, and the next refresh or rollback finds out by itself
 * what is left to do. A repair may be part of it here too.
 */
export const afterwards = proxyActivities<Activities>({
  startToCloseTimeout: '24 hours',
  heartbeatTimeout,
  retry: { ...retry, maximumAttempts: 3 },
  cancellationType,
})

/** What is waited for by nobody but a person who was asked: while the registry does not answer, nothing else can be known. Cancelling ends it. */
export const standing = proxyActivities<Activities>({
  startToCloseTimeout: '1 minute',
  heartbeatTimeout,
  retry,
  cancellationType,
})

/** Work in proportion to the data: hours are legal, silence is not. */
export const long = proxyActivities<Activities>({
  startToCloseTimeout: '24 hours',
  heartbeatTimeout,
  retry: { ...retry, maximumAttempts: 20 },
  cancellationType,
})

/** Of further stores: one that does not answer for some ten seconds is left behind, and brought up by a later refresh or rollback. */
const soon = { ...retry, maximumAttempts: 5 }

/** Sets a further store's pointer: never behind builds that wait for a slot. */
export const follows = proxyActivities<Activities>({
  startToCloseTimeout: '24 hours',
  heartbeatTimeout,
  retry: soon,
  cancellationType,
})

/** Reads and writes as many blocks as a build. */
export function copies() {
  return proxyActivities<Activities>({
    taskQueue: buildsQueue(workflowInfo().taskQueue),
    startToCloseTimeout: '24 hours',
    heartbeatTimeout,
    retry: soon,
    cancellationType,
  })
}

/** As `long`, on slots of their own: what reads or writes every row. However many wait for a slot, a rollback does not. */
export function heavy() {
  return proxyActivities<Activities>({
    taskQueue: buildsQueue(workflowInfo().taskQueue),
    startToCloseTimeout: '24 hours',
    heartbeatTimeout,
    retry: { ...retry, maximumAttempts: 20 },
    cancellationType,
  })
}

/** Looking for something new, for ten minutes at most: tried again for as long as the database does not answer. */
export function watching() {
  return proxyActivities<Activities>({
    taskQueue: watchesQueue(workflowInfo().taskQueue),
    startToCloseTimeout: '15 minutes',
    heartbeatTimeout,
    retry,
    // What it finds after it was cancelled is of no interest.
    cancellationType: 'TRY_CANCEL',
  })
}

/**
 * The watch over a version that readers are on: nobody else looks at it meanwhile, so that it outlives a store or database that is down for a night.
 * Given up a day after the longest bake would have ended. However many bake, a rollback finds a slot.
 */
export function baking() {
  return proxyActivities<Activities>({
    taskQueue: watchesQueue(workflowInfo().taskQueue),
    startToCloseTimeout: '24 hours',
    scheduleToCloseTimeout: '48 hours',
    heartbeatTimeout,
    retry,
    cancellationType,
  })
}

/** The comparison of a candidate with what readers are on, on the same slots: it waits most of the time. */
export function comparing() {
  return proxyActivities<Activities>({
    taskQueue: watchesQueue(workflowInfo().taskQueue),
    startToCloseTimeout: '24 hours',
    heartbeatTimeout,
    retry: { ...retry, maximumAttempts: 20 },
    cancellationType,
  })
}
