/** States of a version, in the order a good one goes through them. */
export const VERSION_STATES = [
  'building',
  'sealed',
  'held',
  'rejected',
  'candidate',
  'active',
  'retained',
  'quarantined',
  'retired',
  'swept',
] as const
export type VersionState = (typeof VERSION_STATES)[number]

/**
 * Where a version may go from each state; nothing else is allowed. Active is left only by a flip or a rollback, and
 * swept is the end: nothing of the version is left.
 */
export const NEXT_STATES: Record<VersionState, readonly VersionState[]> = {
  /** Retired without ever being sealed: the build was given up. */
  building: ['sealed', 'retired'],
  /** Retained: it was active for a moment, as found when a later flip had settled first. */
  sealed: ['held', 'rejected', 'candidate', 'active', 'retained', 'quarantined', 'retired'],
  /** Sealed again: a person let it pass. */
  held: ['sealed', 'rejected', 'quarantined', 'retired'],
  /** Sealed again: what refused it was waived. */
  rejected: ['sealed', 'retired'],
  /** Sealed again: its canary ended without a verdict. */
  candidate: ['sealed', 'held', 'rejected', 'active', 'retained', 'quarantined', 'retired'],
  active: ['retained', 'quarantined'],
  retained: ['active', 'quarantined', 'retired'],
  /** Released: to what it was. */
  quarantined: ['sealed', 'retained', 'retired'],
  retired: ['swept'],
  swept: [],
}

export function mayBecome(from: VersionState, to: VersionState): boolean {
  return NEXT_STATES[from].includes(to)
}
