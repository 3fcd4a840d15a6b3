import type { Pointer } from '../schemas/pointer.ts'
import { compareEpoch } from '../src/core/pointer.ts'
import { type FlipRow, openFlips } from '../src/registry/flips.ts'
import { settleFlip } from '../src/registry/settle-flip.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'

/**
 * Reads from the store how flips ended whose outcome nobody recorded. One that the pointer does not show and whose epoch is higher than the
 * pointer's may still be made by whoever asked for it: it stays open, and all it needs stays too, until a later flip rules it out.
 */
export async function settleOpenFlips(
  deps: Pick<Deps, 'pool'> & Partial<Pick<Deps, 'log'>>,
  store: Store,
  dataset: string,
): Promise<void> {
  const open = await openFlips(deps.pool, dataset)
  if (open.length === 0) return
  const pointer = (await store.pointer.read())?.pointer ?? null
  for (const flip of open) {
    const outcome = outcomeOf(flip, pointer)
    if (outcome === null) continue
    const active = pointer?.active?.tag ?? null
    const detail = { store: store.url, readFromStore: true, active, epoch: pointer?.epoch ?? null }
    const hold = outcome === 'confirmed' && flip.kind === 'rollback' ? pointer?.hold : null
    await settleFlip(deps.pool, { flipId: flip.flipId, outcome, detail, ...(hold ? { hold } : {}) })
    deps.log?.info(
      { dataset, step: 'settle', flipId: flip.flipId, outcome, version: flip.to },
      'flip settled by reading',
    )
  }
}

function outcomeOf(flip: FlipRow, pointer: Pointer | null): 'confirmed' | 'refused' | null {
  if (pointer === null) return null
  if (pointer.flips.some((made) => made.flipId === flip.flipId)) return 'confirmed'
  return compareEpoch(pointer.epoch, { registry: flip.epoch, breakGlass: 0 }) >= 0 ? 'refused' : null
}
