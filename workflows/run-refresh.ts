import { executeChild, isCancellation, patched, sleep, workflowInfo } from '@temporalio/workflow'
import { type RefreshOutcome, type ScheduledOutcome, WORKFLOW_ID } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { quick } from './activities.ts'
import { refresh } from './refresh.ts'

/**
 * A refresh that no person asked for, under its dataset's fixed id, tried again as the dataset's `retries` say: each attempt a refresh of its
 * own. Skipped where one is running, or a person holds the dataset: neither is a failure.
 *
 * @param ticket of the person who triggered it; each attempt is theirs.
 */
export async function runRefresh(dataset: string, reason: string, ticket?: string): Promise<ScheduledOutcome> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await executeChild(refresh, {
        workflowId: WORKFLOW_ID.refresh(dataset),
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        // It ends by itself, and compensates what it began, whatever becomes of this one.
        parentClosePolicy: 'ABANDON',
        args: [
          { dataset, reason: attempt === 1 ? reason : `${reason}, attempt ${attempt}`, ...(ticket && { ticket }) },
        ],
      }).then(outcomeOf)
    } catch (error) {
      if (error instanceof Error && error.name === 'WorkflowExecutionAlreadyStartedError') {
        const summary = await quick.skipped({ dataset, workflowId: workflowInfo().workflowId })
        return { status: 'SKIPPED', tag: null, summary }
      }
      const [code, message] = [failureCode(error), failureMessage(error)]
      if (code === 'ON_HOLD' || code === 'REFRESH_RUNNING') {
        if (patched('skip-is-told'))
          await quick.skipped({ dataset, workflowId: workflowInfo().workflowId, reason: message })
        return { status: 'SKIPPED', tag: null, summary: message }
      }
      if (isCancellation(error)) throw error
      const { retryInMs } = await quick.afterFailure({ dataset, code, message, attempt })
      if (retryInMs === null) throw error
      await sleep(retryInMs)
    }
  }
}

function outcomeOf({ status, tag, summary }: RefreshOutcome): ScheduledOutcome {
  return { status, tag, summary }
}
