import { refreshedSince } from '../src/registry/refreshed-since.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { definitionOf } from './under-policy.ts'

/**
 * Whether a run of a schedule that begins late has nothing left to do: after an outage all that came due meanwhile begin at once, and the first
 * of them has looked at what changed. How late is all that is compared, as clocks of Temporal and of the database differ.
 */
export const madeUpFor =
  (deps: Deps) =>
  ({ dataset, lateMs }: { dataset: string; lateMs: number }): Promise<{ reason: string | null }> =>
    asActivity(async () => {
      // When it is due is told without its jitter.
      const { jitterMs = 0 } = (await definitionOf(deps, dataset)).schedule ?? {}
      const withinMs = lateMs - jitterMs
      const refreshed = withinMs <= 0 ? null : await refreshedSince(deps.pool, { dataset, withinMs })
      if (refreshed === null) return { reason: null }
      return {
        reason: `it began ${Math.round(lateMs / 1000)} s late, and refresh ${refreshed} has made up for it: that began after it was due`,
      }
    })
