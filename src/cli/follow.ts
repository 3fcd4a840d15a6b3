import { setTimeout as sleep } from 'node:timers/promises'
import type { Client, WorkflowHandle } from '@temporalio/client'
import { SingleBar } from 'cli-progress'
import { REFRESH_STEPS, type RefreshProgress } from '../../schemas/refresh.ts'
import { type ErrorDetails, SnapflipError } from '../core/errors.ts'
import { failureCode, failureMessage } from '../core/failure.ts'
import { pendingActivity } from '../temporal/pending-activity.ts'
import type { Session } from './session.ts'
import { temporalFailure } from './temporal.ts'

const POLL_MS = 400
/** A query is answered by a worker: without one it would wait for its deadline. */
const QUERY_TIMEOUT_MS = 2_000
/** A worker that is there takes a task well within this. */
const NO_WORKER_AFTER_MS = 4_000
const NO_WORKER_AGAIN_MS = 30_000

/** What Ctrl-C gave: the workflow goes on, only nobody looks at it here any more. */
export const DETACHED = Symbol('detached')

/**
 * Waits for a workflow's result, showing its progress on stderr: a bar on a terminal, a line a step elsewhere. Says so when no worker polls the
 * task queue, and goes on waiting. Ctrl-C stops the waiting, never the workflow.
 *
 * @throws SnapflipError with the code the workflow failed with; CANCELLED when it was cancelled or terminated.
 */
export async function follow<R>(
  session: Session,
  client: Client,
  handle: WorkflowHandle,
): Promise<R | typeof DETACHED> {
  const stop = new AbortController()
  const detached = new Promise<typeof DETACHED>((resolve) => process.once('SIGINT', () => resolve(DETACHED)))
  const shown = session.json ? new Quiet() : process.stderr.isTTY ? new Bar() : new Lines()
  const watching = watch(session, client, handle, shown, stop.signal)
  try {
    return await Promise.race([handle.result() as Promise<R>, detached])
  } catch (error) {
    throw await workflowFailure(error, session, handle)
  } finally {
    stop.abort()
    await watching
    shown.end()
  }
}

/** How far a workflow is, as a worker answers; throws where none does in time. */
export function progressOf(client: Client, handle: WorkflowHandle): Promise<RefreshProgress> {
  return client.withDeadline(Date.now() + QUERY_TIMEOUT_MS, () => handle.query<RefreshProgress>('progress'))
}

/** What a failed workflow means, whichever layers Temporal wrapped it in. */
async function workflowFailure(error: unknown, session: Session, handle: WorkflowHandle): Promise<unknown> {
  const { WorkflowFailedError, WorkflowNotFoundError } = await import('@temporalio/client')
  if (error instanceof WorkflowNotFoundError) {
    const { workflowId } = handle
    return new SnapflipError(
      'USAGE',
      `Expected a workflow ${workflowId} to follow, found none. Start one.`,
      { workflowId },
      error,
    )
  }
  if (!(error instanceof WorkflowFailedError)) return temporalFailure(error, await temporalOf(session))
  const details = { workflowId: handle.workflowId, ...detailsOf(error) }
  const kind = error.cause?.name
  if (kind === 'CancelledFailure' || kind === 'TerminatedFailure') {
    // What is cancelled takes back what it did; what is terminated was stopped wherever it stood.
    const how =
      kind === 'CancelledFailure'
        ? 'was cancelled; readers are where they were'
        : 'was terminated, and may have moved readers: `snapflip status` says where they are'
    return new SnapflipError('CANCELLED', `${handle.workflowId} ${how}.`, details, error)
  }
  return new SnapflipError(failureCode(error) ?? 'INTERNAL', failureMessage(error), details, error)
}

/** An activity's application failure carries the details of the error it was made from. */
function detailsOf(error: unknown): ErrorDetails {
  let found: ErrorDetails = {}
  for (let at = error; at instanceof Error; at = at.cause) {
    const [first] = (at as { details?: unknown[] }).details ?? []
    if (typeof first === 'object' && first !== null) found = first as ErrorDetails
  }
  return found
}

/** Where Temporal is looked for, a profile's values included. */
export async function temporalOf(session: Session): Promise<{ address: string; namespace: string }> {
  const { temporalTarget } = await import('../temporal/connection.ts')
  return temporalTarget((await session.config()).temporal)
}

interface Shown {
  show(progress: RefreshProgress): void
  note(line: string): void
  end(): void
}

async function watch(session: Session, client: Client, handle: WorkflowHandle, shown: Shown, signal: AbortSignal) {
  const begun = Date.now()
  let answeredAt = 0
  let notedAt = 0
  let noted: string | null = null
  while (!signal.aborted) {
    try {
      const progress = await progressOf(client, handle)
      answeredAt = Date.now()
      const { told, trouble } = await pendingActivity(handle).catch(() => ({ told: null, trouble: null }))
      if (signal.aborted) break
      shown.show(told === null ? progress : { ...progress, summary: `${progress.summary}: ${told}` })
      if (trouble !== null && trouble !== noted) shown.note(trouble)
      noted = trouble
    } catch {
      // The result tells of every failure; what a query's failure may mean besides is that no worker is there.
      const silentMs = Date.now() - Math.max(begun, answeredAt)
      if (!signal.aborted && silentMs > NO_WORKER_AFTER_MS && Date.now() - notedAt > NO_WORKER_AGAIN_MS) {
        notedAt = Date.now()
        const { taskQueue } = (await session.config()).temporal
        const workers = await workersPolling(client, taskQueue).catch(() => null)
        if (workers === 0 && !signal.aborted)
          shown.note(
            `No worker polls task queue ${taskQueue}: start one with \`snapflip worker\`. Still waiting; Ctrl-C detaches.`,
          )
      }
    }
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined)
  }
}

/** A poll lasts about a minute; who has not polled since is gone. */
const POLLING_WITHIN_MS = 70_000
/** temporal.api.enums.v1.TaskQueueType */
const QUEUE_TYPE = { workflow: 1, activity: 2 } as const

/** How many workers took or waited for tasks of this type lately. The server remembers a killed one for some minutes. */
export async function workersPolling(
  client: Client,
  taskQueue: string,
  type: keyof typeof QUEUE_TYPE = 'workflow',
): Promise<number> {
  const described = await client.withDeadline(Date.now() + QUERY_TIMEOUT_MS, () =>
    client.workflowService.describeTaskQueue({
      namespace: client.options.namespace,
      taskQueue: { name: taskQueue },
      taskQueueType: QUEUE_TYPE[type],
    }),
  )
  const now = Date.now()
  return (described.pollers ?? []).filter(
    ({ lastAccessTime }) => now - Number(lastAccessTime?.seconds ?? 0) * 1000 < POLLING_WITHIN_MS,
  ).length
}

/** Where in a refresh a step stands. */
function positionOf({ step }: RefreshProgress): number {
  return step === 'done' || step === 'compensate' ? REFRESH_STEPS.length : REFRESH_STEPS.indexOf(step)
}

class Bar implements Shown {
  readonly #bar = new SingleBar({
    format: '{bar} {step} {tag}  {summary}',
    barsize: 20,
    hideCursor: true,
    clearOnComplete: true,
    linewrap: false,
    stream: process.stderr,
    gracefulExit: false,
  })
  #started = false

  show(progress: RefreshProgress): void {
    const texts = { step: progress.step, tag: progress.tag ?? '', summary: progress.summary }
    if (!this.#started) this.#bar.start(REFRESH_STEPS.length, positionOf(progress), texts)
    else this.#bar.update(positionOf(progress), texts)
    this.#started = true
  }

  note(line: string): void {
    this.end()
    process.stderr.write(`${line}\n`)
  }

  end(): void {
    if (this.#started) this.#bar.stop()
    this.#started = false
  }
}

class Lines implements Shown {
  #last = ''

  show({ step, tag, summary }: RefreshProgress): void {
    if (step !== this.#last) process.stderr.write(`${step}${tag === null ? '' : ` ${tag}`}: ${summary}\n`)
    this.#last = step
  }

  note(line: string): void {
    process.stderr.write(`${line}\n`)
  }

  end(): void {}
}

class Quiet implements Shown {
  show(): void {}
  note(line: string): void {
    process.stderr.write(`${line}\n`)
  }
  end(): void {}
}
