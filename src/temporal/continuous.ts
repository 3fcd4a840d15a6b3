import type { Client, WorkflowHandle } from '@temporalio/client'
import { type ContinuousRequest, type ContinuousState, TRIGGERED_MAX } from '../../schemas/continuous.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { pendingActivity } from './pending-activity.ts'
import { type ScheduleState, startTriggered, type Trigger, type Triggered } from './schedules.ts'
import { waitingTickets } from './waiting-tickets.ts'

/** A query is answered by a worker: without one it would wait for its deadline. */
const QUERY_TIMEOUT_MS = 5_000

/** It runs, and only a worker can say more. */
const UNANSWERED: ContinuousState = { paused: null, runs: [], doing: 'no worker answers' }

const handleOf = (client: Client, dataset: string) => client.workflow.getHandle(WORKFLOW_ID.continuous(dataset))

/** Starts continuous mode, or lets what runs refresh now: the definition may be another one. One that is paused stays so. */
export async function putContinuous(
  client: Client,
  { dataset, atMostEveryMs, taskQueue }: { dataset: string; atMostEveryMs: number; taskQueue: string },
): Promise<void> {
  const running = await runningOn(handleOf(client, dataset))
  if (running !== null && running !== taskQueue) await removeContinuous(client, dataset)
  const request: ContinuousRequest = { dataset, atMostEveryMs }
  await client.workflow.signalWithStart('continuous', {
    workflowId: WORKFLOW_ID.continuous(dataset),
    taskQueue,
    args: [request],
    signal: 'applied',
    signalArgs: [atMostEveryMs],
    staticSummary: `continuous mode of ${dataset}`,
  })
}

/**
 * Ended at once; a refresh that it has started goes on. Runs that persons triggered and that have not begun are made without it: beside another they
 * end skipped, and the history says so to whoever asked. Absent is no error.
 */
export async function removeContinuous(client: Client, dataset: string): Promise<void> {
  const handle = handleOf(client, dataset)
  const taskQueue = await runningOn(handle)
  if (taskQueue === null) return
  const tickets = await waitingTickets(handle)
  await handle.terminate('the definition asks for no continuous mode any more')
  for (const ticket of tickets) await startTriggered(client, { dataset, ticket, taskQueue })
}

function stateOf(client: Client, dataset: string): Promise<ContinuousState> {
  return client
    .withDeadline(Date.now() + QUERY_TIMEOUT_MS, () => handleOf(client, dataset).query<ContinuousState>('state'))
    .catch(() => UNANSWERED)
}

/** Null: it does not run. */
export async function continuousState(client: Client, dataset: string): Promise<ScheduleState | null> {
  const handle = handleOf(client, dataset)
  if ((await runningOn(handle)) === null) return null
  const { paused, runs, doing } = await stateOf(client, dataset)
  const { told, trouble } = await pendingActivity(handle)
  const workflowId = WORKFLOW_ID.refresh(dataset)
  return {
    paused,
    next: [],
    last: runs.map(({ at, status, summary }) => ({ at: new Date(at), workflowId, status, summary })),
    doing: [told ?? doing, trouble].filter((part) => part !== null).join('; '),
  }
}

export async function pauseContinuous(client: Client, dataset: string, note: string): Promise<void> {
  await handleOf(client, dataset).signal('pause', note)
}

export async function unpauseContinuous(client: Client, dataset: string): Promise<void> {
  await handleOf(client, dataset).signal('unpause')
}

/** A run for this person, after those who wait already; one too many is told to try again. Where no worker is, it waits for one. */
export async function triggerContinuous(client: Client, { dataset, ticket }: Trigger): Promise<Triggered> {
  const handle = handleOf(client, dataset)
  const { workflowId } = handle
  const waiting = (await waitingTickets(handle)).length
  if (waiting >= TRIGGERED_MAX) {
    const summary = `${waiting} runs that were triggered wait already, the most that do; try again when some of them are over`
    return { workflowId, status: 'SKIPPED', summary }
  }
  await handle.signal('trigger', ticket)
  return {
    workflowId,
    status: null,
    summary: waiting === 0 ? 'its run comes next' : `its run comes after ${waiting} others`,
  }
}

/** The task queue it runs on; null where it does not run. */
async function runningOn(handle: WorkflowHandle): Promise<string | null> {
  const { WorkflowNotFoundError } = await import('@temporalio/client')
  try {
    const { status, taskQueue } = await handle.describe()
    return status.name === 'RUNNING' ? taskQueue : null
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return null
    throw error
  }
}
