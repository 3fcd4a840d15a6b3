import { CancellationScope, isCancellation, uuid4, workflowInfo } from '@temporalio/workflow'
import type { FlipToOutcome, FlipToRequest } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { first, long, patient } from './activities.ts'
import { failed } from './failed.ts'
import { startBake } from './start-bake.ts'
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
  let isToBake = false
  try {
    const plan = await steps.take('plan', `looking at ${request?.to}`, () =>
      first.planFlipTo({ request, workflowId, runId }),
    )
    const { dataset, from, version } = plan
    isToBake = plan.bake !== undefined
    steps.searchable = plan.searchable
    steps.tell({ snapflipDataset: dataset, snapflipVersion: version.tag })
    await steps.take('preflip', `reading ${version.tag} whole`, () =>
      long.preflip({ dataset, from, version, isAgain: true }),
    )
    return await CancellationScope.nonCancellable(async () => {
      await steps.take('flip', `flipping to ${version.tag}`, () =>
        patient.flipForward({ ...plan, flipId }).catch(async (failure: unknown) => {
          // A flip whose reply was lost may have been made; one that was not shall not come true later.
          const made = await patient.settle({ dataset, flipId }).catch((unread: unknown) => {
            throw failed(
              failure,
              `${failureMessage(failure)} Whether ${dataset} went forward to ${version.tag} is not known, as that could not be read either: ${failureMessage(unread)} See \`snapflip status ${dataset}\`.`,
            )
          })
          if (!made.flipped) throw failure
        }),
      )
      flipped = true
      const read = await steps.take('verify', `reading ${version.tag} back`, () => long.verify({ dataset, version }))
      if (isToBake && read.isActive) await startBake({ dataset, flipId, tag: version.tag })
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
    if (!flipped) throw isCancellation(error) ? error : failed(error)
    const { dataset, to: tag } = request
    return await CancellationScope.nonCancellable(async () => {
      if (failureCode(error) === 'VERIFY_FAILED') {
        const summary = `${tag} does not read back`
        const back = await takeBack({ dataset, tag, flipId, summary, of: `flip ${flipId}` })
        throw failed(error, back.summary)
      }
      if (isToBake) await startBake({ dataset, flipId, tag })
      throw failed(error, `${dataset} went forward to ${tag}; then: ${failureMessage(error)}`)
    })
  }
}
