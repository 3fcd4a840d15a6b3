import { CancellationScope, uuid4, workflowInfo } from '@temporalio/workflow'
import type { FlippedBack } from '../activities/flip-back.ts'
import type { RollbackOutcome, RollbackRequest } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { afterwards, first, long, patient } from './activities.ts'
import { failed } from './failed.ts'
import { followEach } from './further-stores.ts'
import { startBake } from './start-bake.ts'
import { Steps } from './steps.ts'

/**
 * Takes readers back to a retained version: no build, no source. The version left is quarantined and the dataset put on hold in
 * the same step, so that the next refresh does not bring the bad data straight back. Runs beside an open refresh, which
 * then loses its compare-and-set.
 */
export async function rollback(request: RollbackRequest): Promise<RollbackOutcome> {
  const flipId = uuid4()
  const steps = new Steps(flipId)
  const { workflowId, runId, startTime, parent } = workflowInfo()
  // A person at the prompt is told soon; what takes back the flip of a refresh (which says from where) is waited for by readers alone.
  const compensates = parent !== undefined && request?.from !== undefined
  const askedAt = compensates ? {} : { askedAt: startTime.toISOString() }
  const unknown = `Whether ${request?.dataset} was taken back is not known: that could not be read either. Look at \`snapflip status ${request?.dataset}\` before you start another rollback.`

  return await CancellationScope.nonCancellable(async () => {
    const back = await steps.take('flip', `taking ${request?.dataset} back`, () =>
      flipBack().catch(async (failure: unknown) => {
        // What failed shall not come true later, by an attempt that was only paused; or it has come true, and nobody heard of it.
        const made = await settled()
        if (made === null) throw failed(failure, `${failureMessage(failure)} ${unknown}`)
        if (!made) throw failed(failure)
        return await flipBack()
      }),
    )
    steps.searchable = back.searchable
    steps.tell({ snapflipDataset: back.dataset, snapflipVersion: back.to, snapflipOutcome: 'ROLLED_BACK' })
    const others = followEach(back.dataset, back.stores)
    // Heard of when readers' version was read back: until then it would be a rejection that nobody handles, which stops the workflow.
    others.catch(() => undefined)
    const read = await steps
      .take('verify', `reading ${back.to} back`, () => long.verifyRollback({ dataset: back.dataset, tag: back.to }))
      .finally(() => others)
      .catch(async (failure: unknown) => {
        // What does not read back is told already. Of what could not be read nothing is known: all the more it is watched.
        if (failureCode(failure) !== 'VERIFY_FAILED') await watch(back)
        throw failed(failure, `${back.summary}; then: ${failureMessage(failure)}`)
      })
    // Whoever asked for the rollback does not wait for it.
    if (read.isActive) await watch(back)
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

  async function watch({ dataset, to, bake }: FlippedBack): Promise<void> {
    if (bake !== undefined) await startBake({ dataset, flipId, tag: to })
  }

  async function flipBack() {
    return await (compensates ? long : first).flipBack({ flipId, request, workflowId, runId, ...askedAt })
  }

  /** Whether it was made; null where that cannot be read. */
  async function settled(): Promise<boolean | null> {
    return await (compensates ? patient : afterwards).settle({ dataset: request?.dataset, flipId }).then(
      ({ flipped }) => flipped,
      () => null,
    )
  }
}
