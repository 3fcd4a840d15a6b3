import { afterFailure } from './after-failure.ts'
import { approval } from './approval.ts'
import { awaitAdoption } from './await-adoption.ts'
import { bakeUnwatched } from './bake-unwatched.ts'
import { beginCanary } from './begin-canary.ts'
import { build } from './build.ts'
import { compensationFailed } from './compensation-failed.ts'
import type { Deps } from './deps.ts'
import { beginDrill, drillAway, drillBack, endDrill } from './drill.ts'
import { endCanary } from './end-canary.ts'
import { finish } from './finish.ts'
import { flip } from './flip.ts'
import { flipBack } from './flip-back.ts'
import { flipForward, planFlipTo } from './flip-to.ts'
import { degrade, follow } from './follow.ts'
import { gates } from './gates.ts'
import { hold } from './hold.ts'
import { madeUpFor } from './made-up-for.ts'
import { plan } from './plan.ts'
import { preflip } from './preflip.ts'
import { discard, retire } from './retire.ts'
import { settle } from './settle.ts'
import { skipped } from './skipped.ts'
import { somethingNew } from './something-new.ts'
import { stage } from './stage.ts'
import { verify, verifyRollback } from './verify.ts'
import { watchBake } from './watch-bake.ts'
import { watchCanary } from './watch-canary.ts'
import { windowClosed } from './window.ts'

/** Every activity a worker runs, one file a verb. */
export function createActivities(deps: Deps) {
  return {
    plan: plan(deps),
    build: build(deps),
    gates: gates(deps),
    beginCanary: beginCanary(deps),
    watchCanary: watchCanary(deps),
    endCanary: endCanary(deps),
    stage: stage(deps),
    windowClosed: windowClosed(deps),
    approval: approval(deps),
    preflip: preflip(deps),
    flip: flip(deps),
    follow: follow(deps),
    degrade: degrade(deps),
    verify: verify(deps),
    watchBake: watchBake(deps),
    bakeUnwatched: bakeUnwatched(deps),
    retire: retire(deps),
    settle: settle(deps),
    skipped: skipped(deps),
    madeUpFor: madeUpFor(deps),
    discard: discard(deps),
    finish: finish(deps),
    hold: hold(deps),
    compensationFailed: compensationFailed(deps),
    afterFailure: afterFailure(deps),
    somethingNew: somethingNew(deps),
    flipBack: flipBack(deps),
    verifyRollback: verifyRollback(deps),
    planFlipTo: planFlipTo(deps),
    flipForward: flipForward(deps),
    beginDrill: beginDrill(deps),
    drillAway: drillAway(deps),
    drillBack: drillBack(deps),
    endDrill: endDrill(deps),
    awaitAdoption: awaitAdoption(deps),
  }
}

export type Activities = ReturnType<typeof createActivities>
