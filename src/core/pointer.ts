import {
  type Epoch,
  type FreshAsOf,
  type Hold,
  type Pointer,
  RECENT_FLIPS_MAX,
  type VersionRef,
} from '../../schemas/pointer.ts'
import type { ErrorCode, ErrorDetails } from './errors.ts'

/**
 * All decisions about the pointer. Stores only compare and set; whether a change may be made, and what the pointer is
 * afterwards, is decided here, the same for every store.
 */

/** A change of the pointer. Each is idempotent: made twice, the second time finds it `already` there. */
export type PointerChange =
  | FlipChange
  /** The active version is known to be current up to a later watermark. Only forward in time. */
  | { kind: 'fresh'; expectedTag: string; freshAsOf: FreshAsOf }
  | { kind: 'hold'; hold: Hold }
  | { kind: 'resume' }
  | { kind: 'quarantine'; tag: string }
  | { kind: 'release'; tag: string }
  /** Rules out every flip of this epoch or a lower one that was not made yet; the version stays. */
  | { kind: 'fence'; epoch: Epoch }
  /** The first step of every deletion: from here on no flip, rollback or new lease takes the version. */
  | { kind: 'retire'; tag: string }
  /** Drops a retired tag whose manifest is gone. A quarantine outlives it: the version may come back from an archive. */
  | { kind: 'forget'; tag: string }

/** Flip and rollback alike. A rollback also holds the dataset and quarantines the version it leaves, in the same step. */
export interface FlipChange {
  kind: 'flip'
  flipId: string
  /** The whole former state, so that v1→v0→v1 lets no late flip through. Without a pointer: null and NO_EPOCH. */
  expected: { tag: string | null; epoch: Epoch }
  to: VersionRef
  epoch: Epoch
  freshAsOf: FreshAsOf | null
  also?: { hold?: Hold; quarantine?: readonly string[] }
  /** A person's rollback works while the dataset is on hold. */
  allowHold?: boolean
}

type Refusal = { outcome: 'refused'; code: ErrorCode; message: string; details: ErrorDetails }
export type ChangeOutcome =
  | { outcome: 'applied'; pointer: Pointer }
  | { outcome: 'already'; pointer: Pointer }
  | Refusal

/** The epoch of a dataset that was never flipped. */
export const NO_EPOCH: Epoch = { registry: 0, breakGlass: 0 }

/** Negative, zero or positive, as a is lower than, equal to or higher than b. */
export function compareEpoch(a: Epoch, b: Epoch): number {
  return a.registry - b.registry || a.breakGlass - b.breakGlass
}

/** `8`, or `8+2` after two break-glass flips. */
export function formatEpoch(epoch: Epoch): string {
  return epoch.breakGlass === 0 ? `${epoch.registry}` : `${epoch.registry}+${epoch.breakGlass}`
}

/** The pointer of a dataset that was never flipped. */
export function emptyPointer(dataset: string): Pointer {
  return {
    format: 1,
    dataset,
    active: null,
    previous: null,
    epoch: NO_EPOCH,
    flipId: null,
    flips: [],
    hold: null,
    quarantined: [],
    retired: [],
    freshAsOf: null,
  }
}

/** Decides a change. `pointer` is what the store has (null: nothing yet); it is never modified. */
export function applyChange(pointer: Pointer | null, change: PointerChange, dataset: string): ChangeOutcome {
  const now = pointer ?? emptyPointer(dataset)
  switch (change.kind) {
    case 'flip':
      return flip(now, change)
    case 'fresh':
      return fresh(now, change.expectedTag, change.freshAsOf)
    case 'hold':
      return sameHold(now.hold, change.hold) ? already(now) : applied({ ...now, hold: change.hold })
    case 'resume':
      return now.hold === null ? already(now) : applied({ ...now, hold: null })
    case 'quarantine':
      return now.quarantined.includes(change.tag)
        ? already(now)
        : applied({
            ...now,
            quarantined: [...now.quarantined, change.tag],
            previous: now.previous?.tag === change.tag ? null : now.previous,
          })
    case 'release':
      return now.quarantined.includes(change.tag)
        ? applied({ ...now, quarantined: now.quarantined.filter((tag) => tag !== change.tag) })
        : already(now)
    case 'fence':
      return compareEpoch(change.epoch, now.epoch) <= 0 ? already(now) : applied({ ...now, epoch: change.epoch })
    case 'retire':
      return retire(now, change.tag)
    case 'forget':
      return now.retired.includes(change.tag)
        ? applied({ ...now, retired: now.retired.filter((tag) => tag !== change.tag) })
        : already(now)
  }
}

function flip(now: Pointer, change: FlipChange): ChangeOutcome {
  if (now.flips.some((made) => made.flipId === change.flipId)) return already(now)
  const where = `Pointer of ${now.dataset} is at ${now.active?.tag ?? 'no version'} (epoch ${formatEpoch(now.epoch)})`
  const look = `see \`snapflip status ${now.dataset}\`.`
  const details = {
    dataset: now.dataset,
    activeTag: now.active?.tag ?? null,
    activeEpoch: formatEpoch(now.epoch),
    activeFlipId: now.flipId,
    flipId: change.flipId,
    to: change.to.tag,
  }
  if (compareEpoch(change.epoch, now.epoch) <= 0) {
    return refused(
      'SUPERSEDED',
      `${where}, expected an epoch below ${formatEpoch(change.epoch)}. A later flip came first; ${look}`,
      { ...details, epoch: formatEpoch(change.epoch) },
    )
  }
  if (change.expected.tag !== (now.active?.tag ?? null) || compareEpoch(change.expected.epoch, now.epoch) !== 0) {
    const expected = `${change.expected.tag ?? 'no version'} (epoch ${formatEpoch(change.expected.epoch)})`
    return refused('CONFLICT', `${where}, expected ${expected}. Another flip came first; ${look}`, {
      ...details,
      expectedTag: change.expected.tag,
      expectedEpoch: formatEpoch(change.expected.epoch),
    })
  }
  if (now.retired.includes(change.to.tag)) {
    return refused(
      'VERSION_RETIRED',
      `${change.to.tag} of ${now.dataset} is retired, expected a retained version; \`snapflip versions ${now.dataset}\` lists them.`,
      details,
    )
  }
  const quarantined = [...new Set([...now.quarantined, ...(change.also?.quarantine ?? [])])]
  if (quarantined.includes(change.to.tag)) {
    return refused(
      'VERSION_QUARANTINED',
      `${change.to.tag} of ${now.dataset} is quarantined, expected a version that is not; \`snapflip versions ${now.dataset}\` lists them.`,
      details,
    )
  }
  if (now.hold !== null && change.allowHold !== true) {
    return refused(
      'ON_HOLD',
      `${now.dataset} is on hold by ${now.hold.by} (${now.hold.reason}), expected no hold. \`snapflip resume ${now.dataset}\` lifts it.`,
      { ...details, holdBy: now.hold.by, holdReason: now.hold.reason },
    )
  }
  return applied({
    ...now,
    active: change.to,
    previous: rollbackTarget(now, change.to, quarantined),
    epoch: change.epoch,
    flipId: change.flipId,
    flips: [{ flipId: change.flipId, tag: change.to.tag }, ...now.flips].slice(0, RECENT_FLIPS_MAX),
    hold: change.also?.hold ?? now.hold,
    quarantined,
    freshAsOf: change.freshAsOf,
  })
}

/**
 * Where a rollback without a name goes after this flip: to the version that is left, unless that one is quarantined; then to
 * the target before, if that is older than the new active version. After v1→v2→v1 it is neither v2 (quarantined) nor v1 itself;
 * after v1→v2→v3→v1 it is not v2, which the rollback passed over.
 */
function rollbackTarget(now: Pointer, to: VersionRef, quarantined: readonly string[]): VersionRef | null {
  const mayReturn = (version: VersionRef | null): version is VersionRef =>
    version !== null &&
    version.tag !== to.tag &&
    !quarantined.includes(version.tag) &&
    !now.retired.includes(version.tag)
  if (mayReturn(now.active)) return now.active
  return mayReturn(now.previous) && now.previous.ordinal < to.ordinal ? now.previous : null
}

function fresh(now: Pointer, expectedTag: string, freshAsOf: FreshAsOf): ChangeOutcome {
  if (now.active?.tag !== expectedTag) {
    return refused(
      'CONFLICT',
      `Pointer of ${now.dataset} is at ${now.active?.tag ?? 'no version'} (epoch ${formatEpoch(now.epoch)}), expected ${expectedTag}. ` +
        `Another flip came first; see \`snapflip status ${now.dataset}\`.`,
      { dataset: now.dataset, activeTag: now.active?.tag ?? null, expectedTag },
    )
  }
  if (now.freshAsOf !== null && Date.parse(freshAsOf.at) <= Date.parse(now.freshAsOf.at)) return already(now)
  return applied({ ...now, freshAsOf })
}

function retire(now: Pointer, tag: string): ChangeOutcome {
  if (now.retired.includes(tag)) return already(now)
  const role = now.active?.tag === tag ? 'active' : now.previous?.tag === tag ? 'the rollback target' : null
  if (role !== null) {
    return refused(
      'CONFLICT',
      `${tag} is ${role} of ${now.dataset}, expected a version that readers and rollbacks no longer need.`,
      { dataset: now.dataset, tag, role },
    )
  }
  return applied({ ...now, retired: [...now.retired, tag] })
}

function sameHold(a: Hold | null, b: Hold): boolean {
  return a !== null && a.by === b.by && a.reason === b.reason && a.at === b.at
}

function applied(pointer: Pointer): ChangeOutcome {
  return { outcome: 'applied', pointer }
}

function already(pointer: Pointer): ChangeOutcome {
  return { outcome: 'already', pointer }
}

function refused(code: ErrorCode, message: string, details: ErrorDetails): ChangeOutcome {
  return { outcome: 'refused', code, message, details }
}
