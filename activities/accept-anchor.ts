import type { Anchor } from '../schemas/pointer.ts'
import { anchorsIn, anchorText } from '../src/core/anchor.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { acceptAnchor as recordAccepted } from '../src/registry/accept-anchor.ts'
import { requireStore } from '../src/registry/apply-store.ts'
import { type ChangeDeps, changeRepaired } from './change-repaired.ts'

/**
 * Takes the history as it is, although it does not lead to what a flip left of it in the store: with an entry of the history, then in the pointer, which
 * has that entry's hash from then on. Who can write to the database alone accepts nothing, and what is edited later is found by that hash. Failing
 * in between leaves it not accepted: again does both.
 *
 * @returns the entry.
 * @throws SnapflipError USAGE where the store has no such anchor, or the history leads to it.
 */
export async function acceptAnchor(
  deps: ChangeDeps,
  { dataset, anchor, by, reason }: { dataset: string; anchor: Anchor; by: string; reason: string },
): Promise<Anchor> {
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  const pointer = (await store.pointer.read())?.pointer
  const texts = pointer === undefined ? [] : anchorsIn(pointer).map(anchorText)
  if (!texts.includes(anchorText(anchor))) {
    throw new SnapflipError(
      'USAGE',
      `Expected one of the anchors that ${store.url} has of ${dataset} (${texts.join(', ') || 'none'}), found ${anchorText(anchor)}. \`snapflip history verify ${dataset}\` names those that the history does not lead to.`,
      { dataset, seq: anchor.seq },
    )
  }
  const entry = await recordAccepted(deps.pool, { dataset, anchor, reason })
  await changeRepaired(deps, store, { dataset, by }, { kind: 'acceptAnchor', anchor, entry })
  return entry
}
