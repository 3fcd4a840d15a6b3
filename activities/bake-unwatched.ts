import { WORKFLOW_ID } from '../schemas/refresh.ts'
import { endBake } from '../src/registry/end-bake.ts'
import { confirmedFlips } from '../src/registry/flips.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

/** A bake that could not be watched to its end. */
export interface BakeUnwatched {
  dataset: string
  tag: string
  flipId: string
  why: string
}

export const bakeUnwatched =
  (deps: Deps) =>
  (bake: BakeUnwatched): Promise<void> =>
    asActivity(() => tellUnwatched(deps, bake))

/** Flips among which that of a version which is taken back is found: a drill of it is two. */
const RECENT_MAX = 8

/**
 * The last flip's bake should have ended by now, and nothing is at work on it: its workflow was terminated, say, or never started. Told by the next refresh.
 * What made the flip starts the watch only after it has read the version whole, which may take longer than the bake.
 */
export async function endUnwatchedBake(deps: Deps, dataset: string): Promise<void> {
  const [last, ...before] = await confirmedFlips(deps.pool, dataset, RECENT_MAX)
  if (last?.bakeUntil == null || last.bakeOutcome !== null || last.bakeUntil.getTime() > Date.now()) return
  const { flipId, from, to: tag } = last
  const watch = WORKFLOW_ID.bake(dataset, flipId)
  const left = before.filter((flip) => flip.to === from)
  const starters = [
    WORKFLOW_ID.rollback(dataset),
    ...left.map((flip) => WORKFLOW_ID.rollbackBeside(dataset, flip.flipId)),
    WORKFLOW_ID.flipTo(dataset),
  ]
  // The watch last: whatever ended before it was asked for has started it by then.
  for (const workflowId of [...starters, watch]) if (await deps.isRunning(workflowId)) return
  await tellUnwatched(deps, { dataset, tag, flipId, why: `no workflow ${watch} is at work` })
}

/**
 * The watch over a version ended before its time, and not because readers left it: that is told, and recorded as cut short, so that a rollback goes
 * to what was watched to its end where there is any. The pointer goes on saying that it bakes, for the same reason.
 */
async function tellUnwatched(deps: Deps, { dataset, tag, flipId, why }: BakeUnwatched): Promise<void> {
  const summary = `nobody watches ${tag} of ${dataset} any more, as its bake ended before its time: ${why}`
  await deps.alert({
    kind: 'COMPENSATION_FAILED',
    dataset,
    version: tag,
    incident: `bake ${flipId}`,
    summary,
    evidence: { flipId },
  })
  await endBake(deps.pool, { flipId, outcome: 'cutShort', detail: { summary } })
}
