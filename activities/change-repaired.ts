import { randomUUID } from 'node:crypto'
import type { PointerChange } from '../src/core/pointer.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import { absorbBreakGlass } from './absorb.ts'
import type { Looking } from './damage.ts'
import { type FollowDeps, followAll } from './follow.ts'
import { reconcile } from './reconcile.ts'
import { settleOpenFlips } from './settle-flips.ts'
import { throughRestarts } from './through-restarts.ts'

/** What a person's change of the pointer needs of the world: `Deps`, or what the command line opened. */
export type ChangeDeps = FollowDeps

/**
 * Changes the pointer for a person. In a Redis that restarted or failed over, where nothing is written before somebody has looked, it looks first, as
 * a refresh would. The further stores take the change over, as far as they answer.
 */
export async function changeRepaired(
  deps: ChangeDeps,
  store: Store,
  { dataset, by }: { dataset: string; by: string },
  change: PointerChange,
): Promise<void> {
  await throughRepair(deps, store, { dataset, by, step: change.kind }, () =>
    changePointer(store.pointer, change, { dataset }),
  )
  await followAll(deps, lookingFor(deps, { dataset, step: change.kind }))
}

/** Work of a person that sets the pointer, whatever restarted. */
export async function throughRepair<T>(
  deps: ChangeDeps,
  store: Store,
  { dataset, by, step }: { dataset: string; by: string; step: string },
  work: () => Promise<T>,
): Promise<T> {
  return throughRestarts(work, () =>
    reconcile(deps, store, {
      rollback: { flipId: randomUUID(), actor: by, reason: null, hold: null, to: null },
      ...lookingFor(deps, { dataset, step }),
    }),
  )
}

/** A person waits for it: nothing is cut off. */
function lookingFor(deps: ChangeDeps, { dataset, step }: { dataset: string; step: string }): Looking {
  return {
    dataset,
    tell: (progress) => deps.log.info({ dataset, step }, progress),
    signal: new AbortController().signal,
  }
}

/** What is in the store alone, a rollback whose reply was lost or one that was made without the registry, is in the registry afterwards. */
export async function settleAll(
  deps: ChangeDeps,
  store: Store,
  { dataset, by }: { dataset: string; by: string },
): Promise<void> {
  await settleOpenFlips(deps, store, dataset)
  await throughRepair(deps, store, { dataset, by, step: 'absorb' }, () => absorbBreakGlass(deps, store, dataset))
}
