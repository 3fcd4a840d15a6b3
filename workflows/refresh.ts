import {
  ApplicationFailure,
  CancellationScope,
  executeChild,
  isCancellation,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow'
import type { RefreshOutcome, RefreshRequest, RefreshStatus } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { long, quick } from './activities.ts'
import { rollback } from './rollback.ts'
import { Steps } from './steps.ts'

/**
 * A refresh, whole: from committed changes to readers on the next version, or nothing at all.
 *
 * Every step is an activity that may run twice. Until `flip` nothing that readers see has changed; what failed before it is
 * discarded. After `flip`, failing means going back, by the `rollback` workflow.
 */
export async function refresh(request: RefreshRequest): Promise<RefreshOutcome> {
  const refreshId = uuid4()
  const flipId = uuid4()
  const steps = new Steps(refreshId)
  let tag: string | null = null
  let flipped = false

  try {
    const plan = await steps.take('plan', 'looking at what changed', () =>
      quick.plan({ refreshId, request, ...caller() }),
    )
    const { dataset } = plan
    steps.searchable = plan.searchable
    steps.tell({ snapflipDataset: dataset })

    const built = await steps.take('build', plan.summary, () => buildOrRebuild(refreshId, dataset))
    if (!built.changed) return await end('NOTHING_NEW', built.summary)
    const version = built.version
    tag = version.tag
    steps.progress = { ...steps.progress, tag }
    steps.tell({ snapflipVersion: tag })

    const judged = await steps.take('gates', `judging ${tag}`, () => long.gates({ refreshId, dataset, version }))
    if (judged.verdict === 'hold') return await end('HELD', judged.summary)
    if (judged.verdict === 'reject') return await end('REJECTED', judged.summary)

    // approval: a person's yes, bound to digest and manifest, goes here.
    // canary: a share of the readers on the candidate goes here.

    await steps.take('preflip', `checking that ${version.tag} is what the gates saw`, () =>
      long.preflip({ refreshId, dataset, version }),
    )
    // Once asked for, a flip is seen through to a known outcome: cancelling in the middle would leave a guess.
    await steps.take('flip', `flipping to ${version.tag}`, () =>
      CancellationScope.nonCancellable(() => quick.flip({ refreshId, dataset, version, flipId })),
    )
    flipped = true

    await steps.take('verify', `reading ${version.tag} back`, () =>
      CancellationScope.nonCancellable(() => long.verify({ dataset, version })),
    )

    // bake: the watch over the new version goes here.

    await steps.take('retire', 'retiring what is no longer needed', () => long.retire({ dataset }))
    return await end('FLIPPED', `${built.summary}; readers are on ${version.tag}`)
  } catch (error) {
    return await CancellationScope.nonCancellable(() =>
      steps.take('compensate', failureMessage(error), () => compensate(error)),
    )
  }

  async function end(status: RefreshStatus, summary: string): Promise<RefreshOutcome> {
    const outcome = await quick.finish({ refreshId, status, tag, summary, durationsMs: steps.durationsMs })
    steps.progress = { ...steps.progress, step: 'done', summary }
    steps.tell({ snapflipOutcome: status })
    return outcome
  }

  /** Takes back what this refresh did, by how far it came, and says how it ended. */
  async function compensate(error: unknown): Promise<RefreshOutcome> {
    const summary = failureMessage(error)
    if (flipped && tag !== null && !isCancellation(error)) {
      // Retiring that fails harms nobody: the next refresh does it again. A version that does not read back does.
      if (steps.progress.tag !== null && failureCode(error) === 'VERIFY_FAILED') {
        await executeChild(rollback, {
          workflowId: `rollback:${request.dataset}`,
          args: [{ dataset: request.dataset, reason: `verification of ${tag} failed: ${summary}` }],
        })
        return end('ROLLED_BACK', summary)
      }
      return end('FLIPPED', `readers are on ${tag}; retiring failed and is left to the next refresh: ${summary}`)
    }
    if (flipped) return end('FLIPPED', `readers are on ${tag}; cancelled after the flip`)
    // Reads how the flip ended before it removes anything: a flip whose reply was lost may have been made.
    const left = await long.discard({ refreshId, dataset: request.dataset, flipId, reason: summary })
    if (left.flipped) return end('FLIPPED', `readers are on ${tag}; found by reading after: ${summary}`)
    const status = isCancellation(error) ? 'CANCELLED' : 'FAILED'
    await end(status, summary)
    if (status === 'CANCELLED') throw error
    throw ApplicationFailure.create({
      type: failureCode(error) ?? 'INTERNAL',
      message: summary,
      nonRetryable: true,
      cause: error as Error,
    })
  }
}

/** Builds from the changes alone where that is possible; a missed change makes the same refresh build in full, and says so. */
async function buildOrRebuild(refreshId: string, dataset: string) {
  try {
    return await long.build({ refreshId, dataset, rebuildReason: null })
  } catch (error) {
    const code = failureCode(error)
    if (code !== 'CHANGE_MISSED' && code !== 'SOURCE_CHANGED') throw error
    return await long.build({ refreshId, dataset, rebuildReason: failureMessage(error) })
  }
}

function caller() {
  const { workflowId, runId } = workflowInfo()
  return { workflowId, runId }
}
