import type { Anchor, Pointer } from '../schemas/pointer.ts'
import { contradictedAnchor } from '../src/registry/contradicted-anchor.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'

/**
 * Before a flip leaves a new anchor: whether the history still leads to the one that the pointer has. If not, people are told and the flip keeps
 * that anchor beside the new one; it is made all the same, since what readers get is decided by pointer and manifest.
 */
export async function contradictedBy(
  deps: Pick<Deps, 'pool' | 'alert'>,
  store: Store,
  pointer: Pointer | null,
): Promise<{ contradicted?: Anchor }> {
  const contradicted = await contradictedAnchor(deps.pool, pointer?.anchor ?? null)
  if (contradicted === null || pointer === null) return {}
  const { dataset } = pointer
  const { seq, hash } = contradicted
  await deps.alert({
    kind: 'HISTORY_BROKEN',
    dataset,
    version: null,
    incident: `${seq}:${hash}`,
    summary: `Expected entry ${seq} of the history to have the hash that the last flip of ${dataset} left in ${store.url}, found it gone or another: the history was edited, cut or restored.`,
    evidence: { seq, hash, store: store.url },
  })
  return { contradicted }
}
