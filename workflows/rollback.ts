import { CancellationScope, uuid4, workflowInfo } from '@temporalio/workflow'
import type { RollbackOutcome, RollbackRequest } from '../schemas/refresh.ts'
import { long } from './activities.ts'
import { Steps } from './steps.ts'

/**
 * Takes readers back to a retained version: no build, no source. The version left is quarantined and the dataset put on hold in
 * the same step, so that the next refresh does not bring the bad data straight back. Runs beside an open refresh, which
 * then loses its compare-and-set.
 */
export async function rollback(request: RollbackRequest): Promise<RollbackOutcome> {
  const flipId = uuid4()
  const steps = new Steps(flipId)
  const { workflowId, runId } = workflowInfo()

  return await CancellationScope.nonCancellable(async () => {
    const back = await steps.take('flip', `taking ${request?.dataset} back`, () =>
      long.flipBack({ flipId, request, workflowId, runId }),
    )
    const read = await steps.take('verify', `reading ${back.to} back`, () =>
      long.verifyRollback({ dataset: back.dataset, tag: back.to }),
    )
    steps.progress = { ...steps.progress, step: 'done', tag: back.to, summary: read.summary }
    return {
      status: 'ROLLED_BACK',
      from: back.from,
      to: back.to,
      epoch: back.epoch,
      summary: `${back.summary}; ${read.summary}`,
      durationsMs: steps.durationsMs,
    }
  })
}
