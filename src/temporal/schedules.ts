import type { Client, ScheduleHandle, ScheduleOptions } from '@temporalio/client'
import { type ScheduledRequest, WORKFLOW_ID } from '../../schemas/refresh.ts'
import type { Schedule } from '../../schemas/schedule.ts'
import { failureMessage } from '../core/failure.ts'

export const scheduleId = (dataset: string) => `snapflip:${dataset}`

/** A run that is skipped ends within this; another may. */
const SKIPPED_WITHIN_MS = 3_000
/** Ended runs that are told. */
const RUNS_MAX = 10

/** What tells runs of a schedule from each other. */
const AT = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/

/** What Temporal knows of a dataset's schedule. */
export interface ScheduleState {
  /** Why it is paused, as whoever paused it said; null when it is not. */
  paused: string | null
  next: Date[]
  /** Newest first. `status` is SKIPPED, or as the refresh ended; null: still running, or not known any more. */
  last: Array<{ at: Date; workflowId: string; status: string | null; summary: string | null }>
  /** Of continuous mode: what it is at. */
  doing?: string
}

/** A run that somebody asks for, and proves it. */
export interface Trigger {
  dataset: string
  ticket: string
  taskQueue: string
}

/** That run, a moment later: as one of `last` of ScheduleState. */
export type Triggered = Omit<ScheduleState['last'][number], 'at'>

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
  const started = info.recentActions.map(({ takenAt, action: { workflow } }) => {
    return { at: takenAt, workflowId: workflow.workflowId, runId: workflow.firstExecutionRunId }
  })
  const newest = [...started, ...(await triggeredRuns(client, dataset))]
    .sort((a, b) => b.at.getTime() - a.at.getTime())
    .slice(0, RUNS_MAX)
  const last = await Promise.all(
    newest.map(async ({ at, workflowId, runId }) => ({ at, workflowId, ...(await endOf(client, workflowId, runId)) })),
  )
  const paused = state.paused ? (state.note ?? '') : null
  return { paused, next: info.nextActionTimes, last }
}

export async function pauseSchedule(client: Client, dataset: string, note: string): Promise<void> {
  await client.schedule.getHandle(scheduleId(dataset)).pause(note)
}

export async function unpauseSchedule(client: Client, dataset: string, note: string): Promise<void> {
  await client.schedule.getHandle(scheduleId(dataset)).unpause(note)
}

/**
 * Now, whatever the times say, and even where it is paused. Temporal's own trigger has no room for a ticket, so this starts what the schedule
 * starts, named as the schedule names it. Beside a run that is at work it starts, and ends SKIPPED: whoever asked is told.
 */
export async function triggerSchedule(client: Client, { dataset, ticket, taskQueue }: Trigger): Promise<Triggered> {
  const run = await startTriggered(client, { dataset, ticket, taskQueue })
  const { workflowId } = run
  // How it ended is asked for below; this waits.
  await client.withDeadline(Date.now() + SKIPPED_WITHIN_MS, () => run.result()).catch(() => undefined)
  return { workflowId, ...(await endOf(client, workflowId, run.firstExecutionRunId)) }
}

/** One at a time: their names are their times. */
export async function startTriggered(client: Client, { dataset, ticket, taskQueue }: Trigger) {
  const request: ScheduledRequest = { dataset, ticket }
  const workflowId = `${WORKFLOW_ID.scheduled(dataset)}-${new Date().toISOString()}`
  return client.workflow.start('scheduledRefresh', { workflowId, taskQueue, args: [request] })
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
    // One that comes due while another is at work starts too, to be reported: Temporal would only count it.
    policies: { overlap: 'ALLOW_ALL', catchupWindow: catchUpMs },
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

/** The newest that persons started: Temporal does not count them among the schedule's own. */
async function triggeredRuns(
  client: Client,
  dataset: string,
): Promise<Array<{ at: Date; workflowId: string; runId: string }>> {
  const prefix = `${WORKFLOW_ID.scheduled(dataset)}-`
  const query = `WorkflowType = 'scheduledRefresh' and TemporalScheduledById is null and WorkflowId starts_with '${prefix}'`
  const runs = []
  // Newest first.
  for await (const { workflowId, runId, startTime } of client.workflow.list({ query })) {
    // Another dataset's name may begin with this one's.
    if (AT.test(workflowId.slice(prefix.length))) runs.push({ at: startTime, workflowId, runId })
    if (runs.length === RUNS_MAX) break
  }
  return runs
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
