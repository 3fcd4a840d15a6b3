import type { Pointer } from '../schemas/pointer.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { compareEpoch, type FlipChange, NO_EPOCH } from '../src/core/pointer.ts'
import { epochOf, type FlipRow, openFlips } from '../src/registry/flips.ts'
import { settleFlip } from '../src/registry/settle-flip.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'

/**
 * Reads from the store how flips ended whose outcome nobody recorded. One that the pointer does not show and whose epoch is higher than the
 * pointer's may still be made by whoever asked for it: it stays open, and all it needs stays too, until a later flip rules it out. So does one that
 * whoever is connected may not settle (a person who may neither roll back nor flip): for a worker, which does it before its next flip.
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
    try {
      await settleFlip(deps.pool, { flipId: flip.flipId, outcome, detail, ...(hold ? { hold } : {}) })
    } catch (error) {
      if (!isSnapflipError(error, 'PRIVILEGE_MISSING')) throw error
      deps.log?.info({ dataset, step: 'settle', flipId: flip.flipId, err: error }, 'flip left for others to settle')
      continue
    }
    deps.log?.info(
      { dataset, step: 'settle', flipId: flip.flipId, outcome, version: flip.to },
      'flip settled by reading',
    )
  }
}

/**
 * Settles all that is open, for good: what was not made by now never is. For where a flip that is still undecided must not come true any more.
 */
export async function ruleOutOpenFlips(
  deps: Parameters<typeof settleOpenFlips>[0],
  store: Store,
  dataset: string,
): Promise<void> {
  await settleOpenFlips(deps, store, dataset)
  const last = (await openFlips(deps.pool, dataset)).at(-1)
  if (last === undefined) return
  await changePointer(store.pointer, { kind: 'fence', epoch: epochOf(last) }, { dataset })
  await settleOpenFlips(deps, store, dataset)
}

/**
 * Makes a refusal final, before it is recorded: another attempt at the same flip, paused for now, must not find later that what stood against it
 * (a quarantine, a hold) is gone. Where the pointer is elsewhere than the flip expected it, it never comes back there. Returns the pointer when such
 * an attempt has made the flip after all.
 */
export async function ruleOut(
  store: Store,
  dataset: string,
  { flipId, epoch, expected }: Pick<FlipChange, 'flipId' | 'epoch' | 'expected'>,
): Promise<Pointer | null> {
  let pointer = (await store.pointer.read())?.pointer ?? null
  const isThere =
    (pointer?.active?.tag ?? null) === expected.tag && compareEpoch(pointer?.epoch ?? NO_EPOCH, expected.epoch) === 0
  if (isThere) pointer = (await changePointer(store.pointer, { kind: 'fence', epoch }, { dataset })).pointer
  return pointer !== null && wasMade(pointer, flipId) ? pointer : null
}

function wasMade(pointer: Pointer, flipId: string): boolean {
  return pointer.flips.some((made) => made.flipId === flipId)
}

function outcomeOf(flip: FlipRow, pointer: Pointer | null): 'confirmed' | 'refused' | null {
  if (pointer === null) return null
  if (wasMade(pointer, flip.flipId)) return 'confirmed'
  return compareEpoch(pointer.epoch, epochOf(flip)) >= 0 ? 'refused' : null
}
