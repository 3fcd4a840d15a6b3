import { executeChild, isCancellation, workflowInfo } from '@temporalio/workflow'
import { type ScheduledOutcome, type ScheduledRequest, WORKFLOW_ID } from '../schemas/refresh.ts'
import { afterwards, quick } from './activities.ts'
import { isRunning } from './is-running.ts'
import { runRefresh } from './run-refresh.ts'

/**
 * What a schedule starts, or a person who triggers it: the dataset's run under its fixed id, which a schedule cannot give since Temporal appends
 * the time to it. Where that is at work already, this one is skipped, and says so.
 */
export async function scheduledRefresh({ dataset, ticket }: ScheduledRequest): Promise<ScheduledOutcome> {
  const { workflowId, searchAttributes } = workflowInfo()
  const [due] = searchAttributes.TemporalScheduledStartTime ?? []
  try {
    return await executeChild(scheduledRun, {
      workflowId: WORKFLOW_ID.scheduledRun(dataset),
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      args: [{ dataset, by: workflowId, ticket, dueAt: due instanceof Date ? due.toISOString() : undefined }],
    })
  } catch (error) {
    if (!isRunning(error)) throw error
    return { status: 'SKIPPED', tag: null, summary: await quick.skipped({ dataset, workflowId, ticket }) }
  }
}

/** The run of a dataset's schedule that is at work, until its last attempt is over: two of them would try again in each other's way. */
export async function scheduledRun({ dataset, by, ticket, dueAt }: ScheduledRun): Promise<ScheduledOutcome> {
  if (dueAt !== undefined) {
    const reason = await madeUpFor({ dataset, lateMs: Date.now() - Date.parse(dueAt) })
    if (reason !== null) {
      await quick.skipped({ dataset, workflowId: by, reason })
      return { status: 'SKIPPED', tag: null, summary: reason }
    }
  }
  return runRefresh({ dataset, by, reason: `scheduled (${by})`, ticket })
}

/** Why nothing is left to do; null: something may be. Where it cannot be told the refresh runs: it finds nothing new, or fails and is tried again, and told of. */
async function madeUpFor(run: { dataset: string; lateMs: number }): Promise<string | null> {
  try {
    return (await afterwards.madeUpFor(run)).reason
  } catch (error) {
    if (isCancellation(error)) throw error
    return null
  }
}

interface ScheduledRun extends ScheduledRequest {
  /** The workflow that a schedule, or a person, started. */
  by: string
  /** Where a schedule started it. */
  dueAt?: string | undefined
}
