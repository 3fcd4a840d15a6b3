import { workflowInfo } from '@temporalio/workflow'
import type { ScheduledOutcome } from '../schemas/refresh.ts'
import { runRefresh } from './run-refresh.ts'

/** What a schedule starts: a refresh under its dataset's fixed id, which a schedule cannot give since Temporal appends the time to it. */
export async function scheduledRefresh({ dataset }: { dataset: string }): Promise<ScheduledOutcome> {
  return runRefresh(dataset, `scheduled (${workflowInfo().workflowId})`)
}
