import { endBake } from '../src/registry/end-bake.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

export interface BakeUnwatched {
  dataset: string
  tag: string
  flipId: string
  why: string
}

/**
 * The watch over a version ended before its time, and not because readers left it: that is told, and recorded as cut short, so that a rollback goes
 * to what was watched to its end where there is any. The pointer goes on saying that it bakes, for the same reason.
 */
export const bakeUnwatched =
  (deps: Deps) =>
  ({ dataset, tag, flipId, why }: BakeUnwatched): Promise<void> =>
    asActivity(async () => {
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
    })
