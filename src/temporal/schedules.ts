import type { Client, ScheduleHandle, ScheduleOptions } from '@temporalio/client'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import type { Schedule } from '../../schemas/schedule.ts'
import { failureMessage } from '../core/failure.ts'

export const scheduleId = (dataset: string) => `snapflip:${dataset}`

/** Ended runs that are told. */
const RUNS_MAX = 10

/** What Temporal knows of a dataset's schedule. */
export interface ScheduleState {
  /** Why it is paused, as whoever paused it said; null when it is not. */
  paused: string | null
  next: Date[]
  /** Newest first. `status` is SKIPPED, or as the refresh ended; null: still running, or not known any more. */
  last: Array<{ at: Date; workflowId: string; status: string | null; summary: string | null }>
  /** Runs that came due while one was at work, since the schedule was made: Temporal starts none of them. */
  skipped?: number
  /** Of continuous mode: what it is at. */
  doing?: string
}

/** Makes the schedule, or makes it what the definition says; one that is paused stays so. */
export async function putSchedule(
  client: Client,
  { dataset, schedule, taskQueue }: { dataset: string; schedule: Schedule; taskQueue: string },
): Promise<void> {
  const wanted = optionsOf(dataset, schedule, taskQueue)
  const handle = client.schedule.getHandle(scheduleId(dataset))
  if (await exists(handle)) {
    await handle.update(({ state }) => ({ ...wanted, state }))
    return
  }
  const { ScheduleAlreadyRunning } = await import('@temporalio/client')
  try {
    await client.schedule.create(wanted)
  } catch (error) {
    // Another `apply` came first, with the same definition or one that is applied again.
    if (!(error instanceof ScheduleAlreadyRunning)) throw error
    await handle.update(({ state }) => ({ ...wanted, state }))
  }
}

/** Absent is no error. */
export async function removeSchedule(client: Client, dataset: string): Promise<void> {
  const handle = client.schedule.getHandle(scheduleId(dataset))
  if (await exists(handle)) await handle.delete()
}

/** Null: there is none. */
export async function scheduleState(client: Client, dataset: string): Promise<ScheduleState | null> {
  const handle = client.schedule.getHandle(scheduleId(dataset))
  const { ScheduleNotFoundError } = await import('@temporalio/client')
  const description = await handle.describe().catch((error: unknown) => {
    if (error instanceof ScheduleNotFoundError) return null
    throw error
  })
  if (description === null) return null
  const { state, info } = description
  const started = info.recentActions.toReversed().slice(0, RUNS_MAX)
  const last = await Promise.all(
    started.map(async ({ takenAt, action }) => {
      const { workflowId } = action.workflow
      return { at: takenAt, workflowId, ...(await endOf(client, workflowId, action.workflow.firstExecutionRunId)) }
    }),
  )
  const paused = state.paused ? (state.note ?? '') : null
  return { paused, next: info.nextActionTimes, last, skipped: info.numActionsSkippedOverlap }
}

export async function pauseSchedule(client: Client, dataset: string, note: string): Promise<void> {
  await client.schedule.getHandle(scheduleId(dataset)).pause(note)
}

export async function unpauseSchedule(client: Client, dataset: string, note: string): Promise<void> {
  await client.schedule.getHandle(scheduleId(dataset)).unpause(note)
}

/** Now, whatever the times say, and even where it is paused. Beside a run that is at work it starts, and ends SKIPPED: whoever asked is told. */
export async function triggerSchedule(client: Client, dataset: string): Promise<void> {
  await client.schedule.getHandle(scheduleId(dataset)).trigger('ALLOW_ALL')
}

function optionsOf(dataset: string, schedule: Schedule, taskQueue: string): ScheduleOptions {
  const { cron, everyMs, timezone, jitterMs, catchUpMs } = schedule
  return {
    scheduleId: scheduleId(dataset),
    spec: {
      ...(cron === undefined ? {} : { cronExpressions: [cron].flat() }),
      ...(everyMs === undefined ? {} : { intervals: [{ every: everyMs }] }),
      timezone,
      jitter: jitterMs,
    },
    action: {
      type: 'startWorkflow',
      workflowType: 'scheduledRefresh',
      workflowId: WORKFLOW_ID.scheduled(dataset),
      taskQueue,
      args: [{ dataset }],
    },
    // A run that still goes on when the next is due is the refresh that the next would wait for.
    policies: { overlap: 'SKIP', catchupWindow: catchUpMs },
  }
}

async function exists(handle: ScheduleHandle): Promise<boolean> {
  const { ScheduleNotFoundError } = await import('@temporalio/client')
  return handle.describe().then(
    () => true,
    (error: unknown) => {
      if (error instanceof ScheduleNotFoundError) return false
      throw error
    },
  )
}

/** How a scheduled run ended, as far as Temporal still keeps it. */
async function endOf(
  client: Client,
  workflowId: string,
  runId: string,
): Promise<{ status: string | null; summary: string | null }> {
  const handle = client.workflow.getHandle(workflowId, runId)
  const { WorkflowFailedError, WorkflowNotFoundError } = await import('@temporalio/client')
  try {
    if ((await handle.describe()).status.name === 'RUNNING') return { status: null, summary: 'running' }
    const { status, summary } = (await handle.result()) as { status: string; summary: string }
    return { status, summary }
  } catch (error) {
    if (error instanceof WorkflowFailedError) return { status: 'FAILED', summary: failureMessage(error) }
    if (error instanceof WorkflowNotFoundError) return { status: null, summary: 'no longer kept by Temporal' }
    throw error
  }
}
