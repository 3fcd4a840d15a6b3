import { epochOf, flipOf } from '../src/registry/flips.ts'
import { ruleOutFlip } from '../src/registry/rule-out-flip.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { repair } from './reconcile.ts'
import { settleOpenFlips } from './settle-flips.ts'
import { throughRestarts } from './through-restarts.ts'

/** The flip whose outcome is asked for; `whereReadersAre`: and which version is active now, also where it was never intended. */
export interface SettleRequest {
  dataset: string
  flipId: string
  whereReadersAre?: boolean
}

/** How a flip ended, as read from the store. */
export interface Settled {
  flipped: boolean
  /** The version readers are on now; null also where that was not asked, and the flip never intended. */
  active: string | null
}

/**
 * Reads how a flip ended before anything is cleaned up: one whose reply was lost may have been made. One that was not made is ruled out: a
 * paused attempt that asks for it later finds the pointer's epoch as high as its own, or, where it had not come to its intent, no way to intend it.
 *
 * A flip that was never intended needs no store to say so: one that does not answer is waited for only by who asks where readers are.
 */
export const settle =
  (deps: Deps) =>
  ({ dataset, flipId, whereReadersAre = false }: SettleRequest): Promise<Settled> =>
    asActivity(async (tell, signal) => {
      const asked = await ruleOutFlip(deps.pool, { dataset, flipId })
      if (asked === null && !whereReadersAre) return { flipped: false, active: null }
      const store = await deps.store(dataset)
      if (asked !== null && asked.outcome === null) {
        const epoch = epochOf(asked)
        await throughRestarts(
          () => changePointer(store.pointer, { kind: 'fence', epoch }, { dataset }),
          () => repair(deps, store, { dataset, tell, signal }),
        )
      }
      await settleOpenFlips(deps, store, dataset)
      const active = (await store.pointer.read())?.pointer.active?.tag ?? null
      return { flipped: (await flipOf(deps.pool, flipId))?.outcome === 'confirmed', active }
    })
