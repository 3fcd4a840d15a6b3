import { type Epoch, type Pointer, RECENT_FLIPS_MAX } from '../../schemas/pointer.ts'
import { laterAnchor, withContradicted } from './anchor.ts'
import { compareEpoch } from './epoch.ts'
import { forbidding } from './forbidden.ts'

/**
 * Whether a store's pointer lacks a flip that the registry knows was made. `known` is the pointer as the registry last confirmed it. An epoch
 * that is as high says nothing: a fence, a repair or a break-glass rollback may have raised it after the flip was undone. The flips that the
 * pointer remembers do.
 */
export function isBehind(stored: Pointer | null, known: Pick<Pointer, 'flipId' | 'epoch'>): boolean {
  if (stored === null) return true
  const hasLast = known.flipId === null || stored.flips.some(({ flipId }) => flipId === known.flipId)
  return !hasLast || compareEpoch(stored.epoch, known.epoch) < 0
}

/** `missing`: no pointer is there. `behind`: it lacks the last flip. `rebound`: another server answers than the one that it was written by. */
export type Loss = 'missing' | 'behind' | 'rebound'

/** What a look at a store's pointer finds lost, or perhaps lost; null: nothing. */
export function lossOf(stored: Pointer | null, isBound: boolean, last: Pick<Pointer, 'flipId' | 'epoch'>): Loss | null {
  if (stored === null) return 'missing'
  if (isBehind(stored, last)) return 'behind'
  return isBound ? null : 'rebound'
}

/**
 * Whether the store's last flip is one of which `known` says nothing: it was made after the registry was read, or nobody has recorded it.
 * Before a repair may undo it for being behind, it is settled and the registry read again.
 */
export function isUnsettled(stored: Pointer | null, known: Pointer): boolean {
  if (stored === null || stored.flipId === null) return false
  const { flipId, breakGlass } = stored
  return !breakGlass.some((entry) => entry.flipId === flipId) && !known.flips.some((flip) => flip.flipId === flipId)
}

/** What the registry says for a repair, besides the pointer that it knows. */
export interface Repair {
  /**
   * The highest epoch that was issued, save to the flip that this repair is part of. What else was undone cannot be told, so no other flip
   * from before comes true after it: not one that is recorded as refused, whose fence was undone; and not one that would come to stand
   * below a flip that was acknowledged, undone, and is recorded only now.
   */
  issued?: Epoch
  /** Whether the registry ended this canary. */
  hasEnded?: (canaryId: string) => boolean
  /** Whether the stored hold, or pin, was lifted in the registry. */
  lifted?: { hold: boolean; pin: boolean }
}

/**
 * What a store's pointer should be after some of its writes may have been undone: the stored one, unless it is behind what the registry
 * confirmed. Either way with what the registry knows to be forbidden: a quarantine, a retirement or a hold can be lost without a flip.
 *
 * A break-glass rollback that the registry has not absorbed stays made, also where it was made on a pointer that was behind: it is the last
 * word of a person, and the store has the only copy of it.
 */
export function assertedPointer(
  asStored: Pointer | null,
  known: Pointer,
  { issued = known.epoch, hasEnded = () => false, lifted }: Repair = {},
): Pointer {
  const stored = asStored && {
    ...asStored,
    hold: lifted?.hold ? null : asStored.hold,
    pin: lifted?.pin ? null : asStored.pin,
  }
  const epoch = [stored?.epoch ?? known.epoch, known.epoch, issued].reduce(higher)
  if (stored === null) return { ...known, epoch }
  if (!isBehind(stored, known)) {
    const candidate = stored.candidate !== null && hasEnded(stored.candidate.canaryId) ? null : stored.candidate
    return withProhibitions({ ...stored, epoch, candidate }, known)
  }
  const entries = stored.breakGlass.filter(({ flipId }) => !known.flips.some((flip) => flip.flipId === flipId))
  const [last, ...older] = entries
  if (last === undefined) return withDeclarations({ ...known, epoch, flips: joined(known.flips, stored.flips) }, stored)
  if (stored.active !== null && known.quarantined.includes(stored.active.tag))
    return withProhibitions({ ...known, epoch, flips: joined(known.flips, stored.flips), breakGlass: entries }, stored)
  // Above the flip that was undone, which readers may have seen; the newest entry takes that epoch to the registry.
  const above = { ...epoch, breakGlass: Math.max(stored.epoch.breakGlass, known.epoch.breakGlass) + 1 }
  const kept = {
    ...stored,
    epoch: above,
    flips: joined(stored.flips, known.flips),
    breakGlass: [{ ...last, epoch: above }, ...older],
  }
  return withProhibitions(kept, known)
}

/** All that were made, by either's word: one that nobody has recorded yet shall be found made, and one that was undone not be found missing again. */
function joined(newer: Pointer['flips'], older: Pointer['flips']): Pointer['flips'] {
  const others = older.filter(({ flipId }) => !newer.some((flip) => flip.flipId === flipId))
  return [...newer, ...others].slice(0, RECENT_FLIPS_MAX)
}

function higher(a: Epoch, b: Epoch): Epoch {
  return compareEpoch(a, b) >= 0 ? a : b
}

/** What belongs to no flip, and the other one may have alone. */
function withDeclarations(pointer: Pointer, other: Pointer): Pointer {
  return forbidding(
    {
      ...pointer,
      pin: pointer.pin ?? other.pin,
      ttl: pointer.ttl ?? other.ttl,
      anchor: laterAnchor(pointer.anchor, other.anchor),
      contradicted: withContradicted(pointer.contradicted, other.contradicted),
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
