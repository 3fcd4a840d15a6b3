import { executeChild, isCancellation, patched, sleep } from '@temporalio/workflow'
import { type RefreshOutcome, type ScheduledOutcome, WORKFLOW_ID } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { quick } from './activities.ts'
import { isRunning } from './is-running.ts'
import { refresh } from './refresh.ts'

interface Run {
  dataset: string
  /** The workflow whose run it is, as the history names it. */
  by: string
  reason: string
  /** Of the person who triggered it; each attempt is theirs. */
  ticket?: string | undefined
}

/**
 * A refresh that no person asked for, under its dataset's fixed id, tried again as the dataset's `retries` say: each attempt a refresh of its
 * own. Skipped where one is running, or a person holds the dataset: neither is a failure.
 */
export async function runRefresh({ dataset, by, reason, ticket }: Run): Promise<ScheduledOutcome> {
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
      if (isRunning(error)) {
        const summary = await quick.skipped({ dataset, workflowId: by, ticket })
        return { status: 'SKIPPED', tag: null, summary }
      }
      const [code, message] = [failureCode(error), failureMessage(error)]
      if (code === 'ON_HOLD' || code === 'REFRESH_RUNNING') {
        if (patched('skip-is-told')) await quick.skipped({ dataset, workflowId: by, reason: message, ticket })
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
