import { type Pointer, RECENT_FLIPS_MAX } from '../../schemas/pointer.ts'
import { laterAnchor } from './anchor.ts'
import { forbidding } from './forbidden.ts'
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
 *
 * A break-glass rollback that the registry has not absorbed stays made, also where it was made on a pointer that was behind: it is the last
 * word of a person, and the store has the only copy of it.
 *
 * @param isAbsorbed whether the registry has a break-glass rollback of this flip id.
 */
export function assertedPointer(
  stored: Pointer | null,
  known: Pointer,
  isAbsorbed = (flipId: string) => known.flips.some((flip) => flip.flipId === flipId),
): Pointer {
  if (stored === null) return known
  if (!isBehind(stored, known)) {
    // A canary raises the epoch. At the registry's own, what that knows of it counts: that it has ended may be what was lost.
    const { candidate } = compareEpoch(stored.epoch, known.epoch) === 0 ? known : stored
    return withProhibitions({ ...stored, candidate }, known)
  }
  const entries = stored.breakGlass.filter((entry) => !isAbsorbed(entry.flipId))
  if (entries.length === 0) return withDeclarations(known, stored)
  const isForbidden = stored.active !== null && known.quarantined.includes(stored.active.tag)
  if (isForbidden) return withProhibitions(withDeclarations({ ...known, breakGlass: entries }, stored), stored)
  return withProhibitions({ ...stored, ...aboveKnown(stored, known, entries) }, known)
}

/** Above the flip that was undone, which readers may have seen; the newest entry takes that epoch to the registry. */
function aboveKnown(
  stored: Pointer,
  known: Pointer,
  [last, ...older]: Pointer['breakGlass'],
): Pick<Pointer, 'epoch' | 'flips' | 'breakGlass'> {
  const breakGlass = Math.max(known.epoch.breakGlass, stored.epoch.breakGlass) + 1
  const epoch = { registry: known.epoch.registry, breakGlass }
  const undone = known.flips.filter(({ flipId }) => !stored.flips.some((flip) => flip.flipId === flipId))
  return {
    epoch,
    flips: [...stored.flips, ...undone].slice(0, RECENT_FLIPS_MAX),
    breakGlass: last === undefined ? [] : [{ ...last, epoch }, ...older],
  }
}

/** What belongs to no flip, and the other one may have alone. */
function withDeclarations(pointer: Pointer, other: Pointer): Pointer {
  return forbidding(
    {
      ...pointer,
      pin: pointer.pin ?? other.pin,
      ttl: pointer.ttl ?? other.ttl,
      anchor: laterAnchor(pointer.anchor, other.anchor),
    },
    pointer,
  )
}

/** Never the active version as retired: a break-glass rollback may have gone to it before its retirement reached the pointer. */
function withProhibitions(pointer: Pointer, other: Pointer): Pointer {
  const union = (a: readonly string[], b: readonly string[]) => [...new Set([...a, ...b])]
  return forbidding(withDeclarations({ ...pointer, hold: other.hold ?? pointer.hold }, other), {
    quarantined: union(pointer.quarantined, other.quarantined),
    retired: union(pointer.retired, other.retired).filter((tag) => tag !== pointer.active?.tag),
  })
}
