import { executeChild, workflowInfo } from '@temporalio/workflow'
import { type RefreshOutcome, type ScheduledOutcome, WORKFLOW_ID } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { refresh } from './refresh.ts'

/**
 * What a schedule starts: a refresh under its dataset's fixed id, which a schedule cannot give since Temporal appends the time to it. Skipped
 * where a refresh is running, or a person holds the dataset: neither is a failure.
 */
export async function scheduledRefresh({ dataset }: { dataset: string }): Promise<ScheduledOutcome> {
  try {
    return await executeChild(refresh, {
      workflowId: WORKFLOW_ID.refresh(dataset),
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      // It ends by itself, and compensates what it began, whatever becomes of this one.
      parentClosePolicy: 'ABANDON',
      args: [{ dataset, reason: `scheduled (${workflowInfo().workflowId})` }],
    }).then(outcomeOf)
  } catch (error) {
    if (error instanceof Error && error.name === 'WorkflowExecutionAlreadyStartedError') {
      return { status: 'SKIPPED', tag: null, summary: `a refresh of ${dataset} was running already` }
    }
    const code = failureCode(error)
    if (code === 'ON_HOLD' || code === 'REFRESH_RUNNING')
      return { status: 'SKIPPED', tag: null, summary: failureMessage(error) }
    throw error
  }
}

function outcomeOf({ status, tag, summary }: RefreshOutcome): ScheduledOutcome {
  return { status, tag, summary }
}
