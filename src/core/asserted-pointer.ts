import type { Pointer } from '../../schemas/pointer.ts'
import { compareEpoch } from './pointer.ts'

/** Whether a store's pointer lacks a flip that the registry knows was made. `known` is the pointer as the registry last confirmed it. */
export function isBehind(stored: Pointer | null, known: Pointer): boolean {
  if (stored === null) return true
  const order = compareEpoch(stored.epoch, known.epoch)
  return order < 0 || (order === 0 && stored.active?.tag !== known.active?.tag)
}

/**
 * What a store's pointer should be after some of its writes may have been undone: the stored one, unless it is behind what the registry
 * confirmed. Either way with what the registry knows to be forbidden: a quarantine, a retirement or a hold can be lost without a flip.
 */
export function assertedPointer(stored: Pointer | null, known: Pointer): Pointer {
  if (stored === null || isBehind(stored, known)) return known
  const union = (a: readonly string[], b: readonly string[]) => [...new Set([...a, ...b])]
  const forbidden = union(known.quarantined, known.retired)
  return {
    ...stored,
    previous: stored.previous !== null && forbidden.includes(stored.previous.tag) ? null : stored.previous,
    hold: known.hold ?? stored.hold,
    quarantined: union(stored.quarantined, known.quarantined),
    retired: union(stored.retired, known.retired),
  }
}
