import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  isCancellation,
  sleep,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow'
import type { Judged } from '../activities/gates.ts'
import type { FlipFrom } from '../activities/parent.ts'
import type { Plan } from '../activities/plan.ts'
import type { LeftBad } from '../activities/verify.ts'
import type { VersionRef } from '../schemas/pointer.ts'
import type { RefreshOutcome, RefreshRequest, RefreshStatus, Verdict } from '../schemas/refresh.ts'
import type { BakePolicy } from '../schemas/watch.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { afterwards, comparing, first, heavy, long, patient, quick } from './activities.ts'
import { Approval } from './approval.ts'
import type { BakeEnd } from './bake.ts'
import { failed } from './failed.ts'
import { followEach, followIn, type Published, stageIn } from './further-stores.ts'
import { startBake } from './start-bake.ts'
import { Steps } from './steps.ts'
import { failureOf, reported, takeBack, tellFailed } from './take-back.ts'

/**
 * A refresh, whole: from committed changes to readers on the next version, or nothing at all.
 *
 * Every step is an activity that may run twice. Until `flip` nothing that readers see has changed; what failed before it is
 * discarded. After `flip`, failing means going back, by the `rollback` workflow.
 */
export async function refresh(request: RefreshRequest): Promise<RefreshOutcome> {
  const refreshId = uuid4()
  const flipId = uuid4()
  const canaryId = uuid4()
  // Typed by hand it may be anything, even nothing; `plan` says what is wrong with it.
  const { dataset } = request ?? {}
  const steps = new Steps(refreshId)
  const undone = { dataset, of: `refresh ${refreshId}` }
  const approval = new Approval()
  let tag: string | null = null
  let planned = false
  let canaryAsked = false
  let flipAsked = false
  let flipped = false
  let stores: Published | undefined
  let watched: BakePolicy | undefined
  let isWatched = false
  let freesRoom = false

  try {
    const plan = await planInWindow()
    if ('left' in plan) throw await undoneFor(plan)
    planned = true
    let { from } = plan
    stores = plan.stores
    freesRoom = plan.freesRoom ?? false
    steps.searchable = plan.searchable
    steps.tell({ snapflipDataset: plan.dataset })
    if (plan.skip) return await end('SKIPPED', plan.skip)

    const built = await steps.take('build', plan.summary, () => buildOrRebuild({ refreshId, dataset, from }))
    if (!built.changed) return await end(built.refused ?? 'NOTHING_NEW', built.summary)
    const { version } = built
    tag = version.tag
    steps.progress = { ...steps.progress, tag }
    steps.tell({ snapflipVersion: tag })

    const judged = await steps.take('gates', `judging ${version.tag}`, () =>
      heavy().gates({ refreshId, dataset, version }),
    )
    if (judged.verdict === 'reject') return await end('REJECTED', await activeTakenBackToo(from.tag, judged))
    const asks = asksApproval(plan.approval, judged.verdict)
    if (judged.verdict === 'hold' && asks === null) return await end('HELD', judged.summary)

    if (asks === 'beforeCanary') {
      const answer = await answered(version, judged.summary)
      if (!answer.isApproved) return await end('REJECTED', answer.summary)
    }

    const kept = await afterWindow(plan, version.tag)
    if (kept !== null) return await end('KEPT', kept)

    const staged =
      stores &&
      (await steps.take('stage', `copying ${version.tag} to ${stores.names.join(', ')}`, () =>
        stageIn(dataset, stores as Published, version),
      ))

    const { canary } = plan
    watched = plan.bake
    if (canary !== undefined) {
      canaryAsked = true
      const compared = await steps.take('canary', `comparing ${version.tag} with what readers are on`, async () => {
        from = (await patient.beginCanary({ refreshId, dataset, from, version, canaryId, policy: canary })).from
        return await comparing().watchCanary({ dataset, canaryId, policy: canary })
      })
      if (compared.verdict === 'hold') return await end('HELD', compared.summary)
      if (compared.verdict === 'reject') return await end('REJECTED', compared.summary)
    }

    if (asks === 'beforeFlip') {
      // A person may take days: meanwhile nobody watches what readers of the candidate meet.
      await leaveCanary('its canary is over, and somebody is asked for an approval')
      const answer = await answered(version, judged.summary)
      if (!answer.isApproved) return await end('REJECTED', answer.summary)
    }

    await steps.take('preflip', `checking that ${version.tag} is what the gates saw`, () =>
      long.preflip({ refreshId, dataset, from, version }),
    )
    const keptLate = await afterWindow(plan, version.tag)
    if (keptLate !== null) {
      await leaveCanary(keptLate)
      return await end('KEPT', keptLate)
    }
    requireNotCancelled()
    flipAsked = true
    // Once asked for, a flip is seen through to a known outcome: cancelling in the middle would leave a guess.
    await steps.take('flip', `flipping to ${version.tag}`, () =>
      CancellationScope.nonCancellable(() =>
        patient.flip({ refreshId, dataset, from, version, flipId, ...(watched && { bakeMs: watched.forMs }) }),
      ),
    )
    flipped = true
    if (staged !== undefined)
      await steps.take('follow', `flipping ${staged.names.join(', ')}`, () => followIn(dataset, staged))

    const read = await steps.take('verify', `reading ${version.tag} back`, () =>
      CancellationScope.nonCancellable(() => long.verify({ dataset, version })),
    )
    if (read.lost !== undefined) return await end(read.lost, `${built.summary}; ${read.summary}`)

    const baked = watched === undefined || !read.isActive ? null : await watch(watched)
    if (baked?.status === 'ROLLED_BACK' || baked?.status === 'FAILED') return await end(baked.status, baked.summary)

    await steps.take('retire', 'retiring what is no longer needed', () => long.retire({ dataset }))
    const reached = read.isActive ? (read.pinned ?? `readers are on ${version.tag}`) : read.summary
    return await end('FLIPPED', `${built.summary}; ${reached}${baked === null ? '' : `; ${baked.summary}`}`)
  } catch (error) {
    const summary = isCancellation(error) ? `cancelled in step ${steps.progress.step}` : failureMessage(error)
    return await CancellationScope.nonCancellable(() =>
      steps.take('compensate', summary, () => compensate(error, summary)),
    )
  }

  /** A gate may know that what readers are on is as bad as what it refused. */
  async function activeTakenBackToo(active: string | null, { summary, rollBack }: Judged): Promise<string> {
    if (rollBack === undefined || active === null) return summary
    const back = await CancellationScope.nonCancellable(() =>
      takeBack({ ...undone, tag: active, flipId, summary: rollBack }),
    )
    return `${summary}; ${back.status === 'ROLLED_BACK' ? `${active} was taken back too` : back.summary}`
  }

  /** Outside its windows it waits before anything is opened: what holds it up by then is found by then. It looks again now and then. */
  async function planInWindow(): Promise<Plan | LeftBad> {
    for (let hasWaited = false; ; hasWaited = true) {
      // Nobody is at the prompt by then.
      const { plan: look } = hasWaited ? patient : first
      const plan = await steps.take('plan', 'looking at what changed', () => look({ refreshId, request, ...caller() }))
      if (!('waitMs' in plan)) return plan
      steps.progress = { ...steps.progress, summary: plan.summary }
      await sleep(plan.waitMs)
    }
  }

  /** As a refresh that died would have done itself, which is closed by it: so nothing is built upon what does not read back. */
  async function undoneFor({ left, summary }: LeftBad): Promise<ApplicationFailure> {
    const { refreshId, flipId, tag } = left
    return CancellationScope.nonCancellable(async () => {
      const taken = await takeBack({ dataset, tag, flipId, summary, of: `refresh ${refreshId}` })
      // Where it cannot be recorded, the next refresh does it again.
      const end = { refreshId, dataset, status: 'FAILED', tag, summary: taken.summary, durationsMs: {} } as const
      await failureOf(() => quick.finish(end))
      return ApplicationFailure.nonRetryable(taken.summary, 'VERIFY_FAILED')
    })
  }

  /** Null: go on. Else the window has closed, and readers stay where they are. */
  async function afterWindow(plan: Plan, tag: string): Promise<string | null> {
    return plan.stopsAtClose ? await quick.windowClosed({ dataset, tag }) : null
  }

  async function leaveCanary(why: string): Promise<void> {
    if (canaryAsked) await patient.endCanary({ dataset, canaryId, why })
    canaryAsked = false
  }

  /** A person's yes or no, bound to digest and manifest. */
  async function answered(version: VersionRef, why: string) {
    return steps.take('approval', `asking for an approval of ${version.tag}`, () =>
      approval.of({ refreshId, dataset, version, why }, (summary) => {
        steps.progress = { ...steps.progress, summary }
      }),
    )
  }

  async function end(status: RefreshStatus, summary: string): Promise<RefreshOutcome> {
    // What a further store lacks is brought there now: for the time being no version will be.
    const isBehind = status === 'NOTHING_NEW' || status === 'HELD' || status === 'REJECTED' || status === 'KEPT'
    if (isBehind) await followEach(dataset, stores?.names)
    if (isBehind && freesRoom && tag !== null) await retireOlder()
    const outcome = await quick.finish({ refreshId, dataset, status, tag, summary, durationsMs: steps.durationsMs })
    steps.progress = { ...steps.progress, step: 'done', summary }
    steps.tell({ snapflipOutcome: status })
    return outcome
  }

  /** Without it a row of versions that readers never see fills the store. How the refresh ended stands. */
  async function retireOlder(): Promise<void> {
    await steps.take('retire', 'retiring what is no longer needed', () =>
      CancellationScope.nonCancellable(() => reported(undone, () => long.retire({ dataset }))),
    )
  }

  /** Takes back what this refresh did, by how far it came, and says how it ended. */
  async function compensate(error: unknown, summary: string): Promise<RefreshOutcome> {
    if (!planned) return await neverBegun(error, summary)
    // Readers first: a share of them is on what nobody goes on with. Where the flip was made after all, this changes nothing.
    const uncompared = flipped || !canaryAsked ? null : await failureOf(endCanary)
    // Read before anything is removed: a flip whose reply was lost may have been made.
    const unread = flipped ? null : await failureOf(settleFlip)
    if (flipped) return await afterFlip(error, summary)
    if (flipAsked && unread !== null) return await neverRead(error, unread, summary)

    const cancelled = isCancellation(error)
    // Where the end cannot be recorded, the next refresh takes this one over; what follows is not left undone for that.
    await failureOf(() => end(cancelled ? 'CANCELLED' : 'FAILED', summary))
    if (uncompared !== null) await failureOf(() => tellFailed(undone, uncompared))
    await failureOf(() => reported(undone, () => long.discard({ dataset })))
    throw cancelled ? error : failed(error)

    async function endCanary(): Promise<void> {
      await patient.endCanary({ dataset, canaryId, why: summary })
    }
  }

  async function settleFlip(): Promise<void> {
    flipped = (await patient.settle({ dataset, flipId })).flipped
  }

  /** The flip may have been made: nothing is removed. Where the end cannot be recorded either, the next refresh takes this one over. */
  async function neverRead(error: unknown, unread: unknown, summary: string): Promise<never> {
    const told = `${summary} Whether readers are on ${tag} is not known, as that could not be read either: ${failureMessage(unread)} The next refresh reads it: \`snapflip refresh ${dataset}\`.`
    await failureOf(() => end('FAILED', told))
    await failureOf(() => tellFailed(undone, unread))
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
    const code = failureCode(error)
    if (code === 'VERIFY_FAILED' || code === 'NOT_PUBLISHED') {
      const taken = await takeBack({ ...undone, tag: tag as string, flipId, summary })
      return await end(taken.status, taken.summary)
    }
    if (!isCancellation(error)) await tellFailed(undone, error)
    // Where another flip came since, it finds that out by itself.
    if (watched !== undefined && !isWatched) await reported(undone, startWatch)
    return await end('FLIPPED', `readers are on ${tag}; then: ${summary}`)
  }

  /** The refresh waits for the bake, unless the next flip is to cut it short. */
  async function watch(policy: BakePolicy): Promise<{ status: BakeEnd['status'] | null; summary: string }> {
    return await steps.take('bake', `watching ${tag}`, async () => {
      const watching = await startWatch()
      // Cancelled, the refresh leaves off waiting; the bake goes on.
      if (policy.whileBaking === 'wait')
        return await Promise.race([watching.result(), CancellationScope.current().cancelRequested])
      return { status: null, summary: `it bakes until it is left, for ${policy.forMs} ms at most` }
    })
  }

  async function startWatch() {
    const watching = await startBake({ dataset, flipId, tag: tag as string })
    isWatched = true
    return watching
  }
}

/** Null: nobody is asked. What a gate holds never becomes a candidate without a yes. */
function asksApproval(approval: Plan['approval'], verdict: Verdict): 'beforeCanary' | 'beforeFlip' | null {
  if (approval === undefined || !(verdict === 'hold' || approval.when === 'always')) return null
  return approval.beforeFlip && verdict !== 'hold' ? 'beforeFlip' : 'beforeCanary'
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

/** A step that did not hear of a cancellation in time has ended as if there were none. */
function requireNotCancelled(): void {
  if (CancellationScope.current().consideredCancelled) throw new CancelledFailure('cancelled before the flip')
}

function caller() {
  const { workflowId, runId } = workflowInfo()
  return { workflowId, runId }
}
