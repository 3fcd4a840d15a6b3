import type { Pointer } from '../../schemas/pointer.ts'
import { isBehind } from '../core/asserted-pointer.ts'
import { SnapflipError } from '../core/errors.ts'
import { formatEpoch } from '../core/pointer.ts'

/**
 * What a store's pointer and the registry do not agree on, with what to do about it; null: nothing. `known` is the pointer as the registry
 * last confirmed it, and was read before the store's: a flip that is confirmed there was in the store by then.
 */
export function disagreement(
  { dataset, store }: { dataset: string; store: string },
  stored: Pointer | null,
  known: Pointer | null,
): SnapflipError | null {
  const details = { dataset, store, active: stored?.active?.tag ?? null, confirmed: known?.active?.tag ?? null }
  if (known !== null && isBehind(stored, known)) {
    return new SnapflipError(
      'STORE_REBOUND',
      `Expected the pointer of ${dataset} in ${store} at ${at(known)}, as it was confirmed last, found ${at(stored)}: the store lost something, or is another one. ` +
        `When it is the right one, a worker brings back what is whole of it within seconds, and \`snapflip refresh ${dataset}\` that too, or builds anew; see runbooks/store-rebound.md.`,
      details,
    )
  }
  if (stored !== null && stored.breakGlass.length > 0) {
    const flipIds = stored.breakGlass.map((entry) => entry.flipId)
    return new SnapflipError(
      'UNABSORBED',
      `Expected the registry to know that readers of ${dataset} are at ${at(stored)}, found ${flipIds.length} break-glass rollbacks that it has not taken over yet. ` +
        `A worker takes them over within seconds; so does the next refresh, rollback or \`snapflip resume ${dataset}\`.`,
      { ...details, flipIds },
    )
  }
  if (stored?.active == null || stored.active.tag === known?.active?.tag) return null
  return new SnapflipError(
    'CONFLICT',
    `Expected the registry to know that readers of ${dataset} are at ${at(stored)}, as ${store} says, found ${at(known)} there: it lost something, or was not told yet. ` +
      `The next refresh or rollback of ${dataset} takes it over from the store; see runbooks/lineage-broken.md.`,
    details,
  )
}

function at(pointer: Pointer | null): string {
  return pointer?.active == null ? 'no version' : `${pointer.active.tag} (epoch ${formatEpoch(pointer.epoch)})`
}
