import {
  CancellationScope,
  CancelledFailure,
  executeChild,
  isCancellation,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow'
import type { FlipFrom } from '../activities/parent.ts'
import type { RefreshOutcome, RefreshRequest, RefreshStatus } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { afterwards, first, heavy, long, patient, quick } from './activities.ts'
import { failed } from './failed.ts'
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
  // Typed by hand it may be anything, even nothing; `plan` says what is wrong with it.
  const { dataset } = request ?? {}
  const steps = new Steps(refreshId)
  let tag: string | null = null
  let planned = false
  let flipAsked = false
  let flipped = false

  try {
    const plan = await steps.take('plan', 'looking at what changed', () =>
      first.plan({ refreshId, request, ...caller() }),
    )
    planned = true
    const { from } = plan
    steps.searchable = plan.searchable
    steps.tell({ snapflipDataset: plan.dataset })

    const built = await steps.take('build', plan.summary, () => buildOrRebuild({ refreshId, dataset, from }))
    if (!built.changed) return await end(built.refused ?? 'NOTHING_NEW', built.summary)
    const { version } = built
    tag = version.tag
    steps.progress = { ...steps.progress, tag }
    steps.tell({ snapflipVersion: tag })

    const judged = await steps.take('gates', `judging ${version.tag}`, () =>
      heavy().gates({ refreshId, dataset, version }),
    )
    if (judged.verdict === 'hold') return await end('HELD', judged.summary)
    if (judged.verdict === 'reject') return await end('REJECTED', judged.summary)

    // approval: a person's yes, bound to digest and manifest, goes here.
    // canary: a share of the readers on the candidate goes here.

    await steps.take('preflip', `checking that ${version.tag} is what the gates saw`, () =>
      long.preflip({ dataset, from, version }),
    )
    requireNotCancelled()
    flipAsked = true
    // Once asked for, a flip is seen through to a known outcome: cancelling in the middle would leave a guess.
    await steps.take('flip', `flipping to ${version.tag}`, () =>
      CancellationScope.nonCancellable(() => patient.flip({ refreshId, dataset, from, version, flipId })),
    )
    flipped = true

    const read = await steps.take('verify', `reading ${version.tag} back`, () =>
      CancellationScope.nonCancellable(() => long.verify({ dataset, version })),
    )

    // bake: the watch over the new version goes here.

    await steps.take('retire', 'retiring what is no longer needed', () => long.retire({ dataset }))
    return await end('FLIPPED', `${built.summary}; ${read.isActive ? `readers are on ${version.tag}` : read.summary}`)
  } catch (error) {
    const summary = isCancellation(error) ? `cancelled in step ${steps.progress.step}` : failureMessage(error)
    return await CancellationScope.nonCancellable(() =>
      steps.take('compensate', summary, () => compensate(error, summary)),
    )
  }

  async function end(status: RefreshStatus, summary: string): Promise<RefreshOutcome> {
    const outcome = await quick.finish({ refreshId, dataset, status, tag, summary, durationsMs: steps.durationsMs })
    steps.progress = { ...steps.progress, step: 'done', summary }
    steps.tell({ snapflipOutcome: status })
    return outcome
  }

  /** Takes back what this refresh did, by how far it came, and says how it ended. */
  async function compensate(error: unknown, summary: string): Promise<RefreshOutcome> {
    if (!planned) return await neverBegun(error, summary)
    // Read before anything is removed: a flip whose reply was lost may have been made.
    const unread = flipped ? null : await failureOf(settleFlip)
    if (flipped) return await afterFlip(error, summary)
    if (flipAsked && unread !== null) return await neverRead(error, unread, summary)

    const cancelled = isCancellation(error)
    await end(cancelled ? 'CANCELLED' : 'FAILED', summary)
    await reported(() => long.discard({ dataset }))
    throw cancelled ? error : failed(error)
  }

  async function settleFlip(): Promise<void> {
    flipped = (await patient.settle({ dataset, flipId })).flipped
  }

  /** The flip may have been made: nothing is removed. Where the end cannot be recorded either, the next refresh takes this one over. */
  async function neverRead(error: unknown, unread: unknown, summary: string): Promise<never> {
    const told = `${summary} Whether readers are on ${tag} is not known, as that could not be read either: ${failureMessage(unread)} The next refresh reads it: \`snapflip refresh ${dataset}\`.`
    await failureOf(() => end('FAILED', told))
    await failureOf(() => tellFailed(unread))
    throw failed(error, told)
  }

  /** Nothing was built, let alone flipped. Where the end cannot be recorded either, the next refresh takes this one over. */
  async function neverBegun(error: unknown, summary: string): Promise<never> {
    const cancelled = isCancellation(error)
    const status = cancelled ? 'CANCELLED' : 'FAILED'
    const { durationsMs } = steps
    await failureOf(() => afterwards.finish({ refreshId, dataset, status, tag, summary, durationsMs }))
    throw cancelled ? error : failed(error)
  }

  async function afterFlip(error: unknown, summary: string): Promise<RefreshOutcome> {
    if (failureCode(error) !== 'VERIFY_FAILED') {
      if (!isCancellation(error)) await tellFailed(error)
      return await end('FLIPPED', `readers are on ${tag}; then: ${summary}`)
    }
    const failure = await failureOf(() => takeBack(summary))
    if (failure === null) return await end('ROLLED_BACK', summary)
    // A rollback that failed may have moved the pointer all the same, or a person's came first: where readers are is read.
    const now = await readersOn()
    if (now !== tag) {
      return await end(
        'ROLLED_BACK',
        `${summary}; readers are on ${now ?? 'no version'}, though: ${failureMessage(failure)}`,
      )
    }
    await tellFailed(failure)
    // Readers stay on it (a first version has nothing before it): nothing is built upon it until a person has looked.
    await reported(() => patient.hold({ dataset, by: 'snapflip', reason: summary }))
    return await end(
      'FAILED',
      `${summary}; it could not be taken back, so readers stay on it and ${dataset} is on hold. \`snapflip resume ${dataset}\`, then \`snapflip refresh ${dataset} --full\`.`,
    )
  }

  /** From this version alone: one that a person has gone back to meanwhile is not left. Goes on without this workflow. */
  async function takeBack(reason: string): Promise<unknown> {
    return executeChild(rollback, {
      workflowId: `rollback:${dataset}`,
      parentClosePolicy: 'ABANDON',
      args: [{ dataset, reason, from: tag as string }],
    })
  }

  /** Still on this version, unless the pointer says otherwise. */
  async function readersOn(): Promise<string | null> {
    let active = tag
    await reported(async () => {
      active = (await patient.settle({ dataset, flipId })).active
    })
    return active
  }

  /** A compensation that fails is told and recorded; how the refresh ended stands. */
  async function reported(compensation: () => Promise<unknown>): Promise<void> {
    const failure = await failureOf(compensation)
    if (failure !== null) await tellFailed(failure)
  }

  async function tellFailed(failure: unknown): Promise<void> {
    const summary = `what follows or undoes the work of refresh ${refreshId} failed: ${failureMessage(failure)}`
    await quick.compensationFailed({ dataset, summary })
  }
}

/** Builds from the changes alone where that is possible; a missed change makes the same refresh build in full, and says so. */
async function buildOrRebuild(request: { refreshId: string; dataset: string; from: FlipFrom }) {
  try {
    return await heavy().build({ ...request, rebuildReason: null })
  } catch (error) {
    const code = failureCode(error)
    if (code !== 'CHANGE_MISSED' && code !== 'SOURCE_CHANGED' && code !== 'LINEAGE_BROKEN') throw error
    return await heavy().build({ ...request, rebuildReason: failureMessage(error) })
  }
}

/** Null: it worked. */
async function failureOf(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work()
    return null
  } catch (error) {
    return error
  }
}

/** A step that did not hear of a cancellation in time has ended as if there were none. */
function requireNotCancelled(): void {
  if (CancellationScope.current().consideredCancelled) throw new CancelledFailure('cancelled before the flip')
}

function caller() {
  const { workflowId, runId } = workflowInfo()
  return { workflowId, runId }
}
