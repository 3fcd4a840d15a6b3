import { WORKFLOW_ID } from '../schemas/refresh.ts'
import { endBake } from '../src/registry/end-bake.ts'
import { confirmedFlips } from '../src/registry/flips.ts'
import { type OpenRefresh, openRefreshOf } from '../src/registry/open-refresh-of.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { moversOf, RECENT_MAX } from './movers.ts'

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

/**
 * Nothing is at work on the last flip's bake. What made the flip died before it started the watch: that is done now. Where it should have ended by now, or
 * its workflow was terminated, that is told. Before a refresh: none waits for what nobody ends.
 * What made the flip starts the watch only after it has read the version whole, which may take longer than the bake.
 *
 * @param hasDied whether nobody goes on with the refresh, which the registry has as open still.
 */
export async function endUnwatchedBake(
  deps: Pick<Deps, 'pool' | 'alert' | 'isRunning' | 'startBake'>,
  dataset: string,
  hasDied: (refresh: OpenRefresh) => Promise<boolean>,
): Promise<void> {
  const [last, ...before] = await confirmedFlips(deps.pool, dataset, RECENT_MAX)
  if (last?.bakeUntil == null || last.bakeOutcome !== null) return
  const { flipId, to: tag } = last
  const watch = WORKFLOW_ID.bake(dataset, flipId)
  const open = await openRefreshOf(deps.pool, dataset)
  if (open !== null && open.refreshId === last.refreshId && !(await hasDied(open))) return
  // The watch last: whatever ended before it was asked for has started it by then.
  for (const workflowId of [...moversOf(dataset, [last], before), watch]) if (await deps.isRunning(workflowId)) return
  const isOver = last.bakeUntil.getTime() <= Date.now()
  if (!isOver && (await deps.startBake({ dataset, flipId, tag }))) return
  await tellUnwatched(deps, { dataset, tag, flipId, why: `no workflow ${watch} is at work` })
}

/**
 * The watch over a version ended before its time, and not because readers left it: that is told, and recorded as cut short, so that a rollback goes
 * to what was watched to its end where there is any. The pointer goes on saying that it bakes, for the same reason.
 */
async function tellUnwatched(
  deps: Pick<Deps, 'pool' | 'alert'>,
  { dataset, tag, flipId, why }: BakeUnwatched,
): Promise<void> {
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
