import { CancellationScope, isCancellation, startChild, uuid4, workflowInfo } from '@temporalio/workflow'
import { type FlipToOutcome, type FlipToRequest, WORKFLOW_ID } from '../schemas/refresh.ts'
import { failureCode } from '../src/core/failure.ts'
import { first, long, patient } from './activities.ts'
import type { bake } from './bake.ts'
import { failed } from './failed.ts'
import { Steps } from './steps.ts'
import { takeBack } from './take-back.ts'

/**
 * Takes readers forward to a version that is there already: one that was released after a rollback, say. Nothing is built; the version passes the same
 * last look as before a refresh's flip, and is read back after it.
 */
export async function flipTo(request: FlipToRequest): Promise<FlipToOutcome> {
  const flipId = uuid4()
  const steps = new Steps(flipId)
  const { workflowId, runId } = workflowInfo()
  let flipped = false
  try {
    const plan = await steps.take('plan', `looking at ${request?.to}`, () =>
      first.planFlipTo({ request, workflowId, runId }),
    )
    const { dataset, from, version } = plan
    steps.searchable = plan.searchable
    steps.tell({ snapflipDataset: dataset, snapflipVersion: version.tag })
    await steps.take('preflip', `reading ${version.tag} whole`, () =>
      long.preflip({ dataset, from, version, isAgain: true }),
    )
    return await CancellationScope.nonCancellable(async () => {
      await steps.take('flip', `flipping to ${version.tag}`, () =>
        patient.flipForward({ ...plan, flipId }).catch(async (failure: unknown) => {
          // A flip whose reply was lost may have been made; one that was not shall not come true later.
          if (!(await patient.settle({ dataset, flipId })).flipped) throw failure
        }),
      )
      flipped = true
      const read = await steps.take('verify', `reading ${version.tag} back`, () => long.verify({ dataset, version }))
      if (plan.bake !== undefined && read.isActive) {
        await startChild<typeof bake>('bake', {
          workflowId: WORKFLOW_ID.bake(dataset, flipId),
          parentClosePolicy: 'ABANDON',
          args: [{ dataset, flipId, tag: version.tag }],
        })
      }
      const summary = `${dataset} went from ${from.tag} forward to ${version.tag}; ${read.summary}`
      steps.progress = { ...steps.progress, step: 'done', tag: version.tag, summary }
      steps.tell({ snapflipOutcome: 'FLIPPED' })
      return {
        status: 'FLIPPED',
        from: from.tag as string,
        to: version.tag,
        summary,
        durationsMs: steps.durationsMs,
      }
    })
  } catch (error) {
    if (!flipped || failureCode(error) !== 'VERIFY_FAILED') throw isCancellation(error) ? error : failed(error)
    const { dataset, to: tag } = request
    const summary = `${tag} does not read back`
    const back = await CancellationScope.nonCancellable(() =>
      takeBack({ dataset, tag, flipId, summary, of: `flip ${flipId}` }),
    )
    throw failed(error, back.summary)
  }
}
