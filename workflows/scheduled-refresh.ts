import { workflowInfo } from '@temporalio/workflow'
import type { ScheduledOutcome, ScheduledRequest } from '../schemas/refresh.ts'
import { runRefresh } from './run-refresh.ts'

/**
 * What a schedule starts, or a person who triggers it: a refresh under its dataset's fixed id, which a schedule cannot give since Temporal appends
 * the time to it.
 */
export async function scheduledRefresh({ dataset, ticket }: ScheduledRequest): Promise<ScheduledOutcome> {
  return runRefresh(dataset, `scheduled (${workflowInfo().workflowId})`, ticket)
}
