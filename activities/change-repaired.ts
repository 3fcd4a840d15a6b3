import { randomUUID } from 'node:crypto'
import type { PointerChange } from '../src/core/pointer.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'
import { reconcile } from './reconcile.ts'
import { throughRestarts } from './through-restarts.ts'

/** What a person's change of the pointer needs of the world: `Deps`, or what the command line opened. */
export type ChangeDeps = Pick<Deps, 'pool' | 'store' | 'log' | 'alert'>

/**
 * Changes the pointer for a person. In a Redis that restarted or failed over, where nothing is written before somebody has looked, it looks first, as
 * a refresh would.
 */
export async function changeRepaired(
  deps: ChangeDeps,
  store: Store,
  { dataset, by }: { dataset: string; by: string },
  change: PointerChange,
): Promise<void> {
  await throughRestarts(
    () => changePointer(store.pointer, change, { dataset }),
    () =>
      reconcile(deps, store, {
        dataset,
        rollback: { flipId: randomUUID(), actor: by, reason: null, hold: null, to: null },
        tell: (progress) => deps.log.info({ dataset, step: change.kind }, progress),
        signal: new AbortController().signal,
      }),
  )
}
