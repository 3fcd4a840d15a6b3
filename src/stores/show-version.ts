import type { Pointer } from '../../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { applyChange, type PointerChange } from '../core/pointer.ts'
import type { Store } from './ports.ts'

/** Each time another write came first: what was looked for is looked for again. */
const ATTEMPTS = 24
/** A store in trouble is not asked for ever while a person waits. */
const UNKNOWN_MAX = 3

/**
 * Makes a change that shows readers a version without asking the registry for it (a break-glass rollback, a pin). Nobody else keeps the version from
 * being swept meanwhile, so the order is: read the pointer, look for the version (`propose`), set the pointer by the very token that was read. Looked
 * for first, it might be swept and forgotten before the pointer is read, and nothing would refuse it; a change decided anew (`changePointer`)
 * would not have been looked for.
 *
 * @param propose gets the pointer, and whether it may be written as it is; may throw.
 * @param mayRebind a Redis that restarted or failed over is bound anew; else it refuses (STORE_REBOUND).
 */
export async function showVersion(
  store: Store,
  dataset: string,
  propose: (pointer: Pointer, isBound: boolean) => Promise<PointerChange>,
  { mayRebind = false } = {},
): Promise<{ outcome: 'applied' | 'already'; pointer: Pointer }> {
  let unknowns = 0
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    try {
      const read = await store.pointer.read()
      if (read === null) throw noVersion(dataset, store)
      const isBound = !mayRebind || (await store.pointer.isBound())
      const decision = applyChange(read.pointer, await propose(read.pointer, isBound), dataset)
      if (decision.outcome === 'refused') throw new SnapflipError(decision.code, decision.message, decision.details)
      if (decision.outcome === 'already') return decision
      const write = isBound ? store.pointer.swap : store.pointer.rebind
      if (await write.call(store.pointer, read.token, decision.pointer)) return decision
    } catch (error) {
      // Restarted between the question and the write: asked again.
      if (mayRebind && isSnapflipError(error, 'STORE_REBOUND')) continue
      // A write whose reply was lost is found `already` made.
      if (!isSnapflipError(error, 'STORE_UNREACHABLE') || ++unknowns >= UNKNOWN_MAX) throw error
    }
  }
  throw new SnapflipError(
    'CONFLICT',
    `Pointer of ${dataset} was changed by others ${ATTEMPTS} times in a row, expected to get a turn. Try again.`,
    { dataset, attempts: ATTEMPTS },
  )
}

function noVersion(dataset: string, store: Store): SnapflipError {
  return new SnapflipError(
    'NO_ACTIVE_VERSION',
    `Expected an active version of ${dataset} in ${store.url}, found no pointer there. See \`snapflip status ${dataset}\`.`,
    { dataset, store: store.url },
  )
}
