import type { Anchor, Epoch, FreshAsOf, Hold, Pin, Pointer, Ttl, VersionRef } from '../../schemas/pointer.ts'
import type { ErrorCode, ErrorDetails } from './errors.ts'

/** A change of the pointer. Each is idempotent: made twice, the second time finds it `already` there. */
export type PointerChange =
  | FlipChange
  | BreakGlassChange
  /** The registry has these entries now; they leave the pointer. */
  | { kind: 'absorb'; flipIds: readonly string[] }
  /** The flip's version stood its bake: from here on a rollback may go to it. Another flip's: nothing happens. */
  | { kind: 'baked'; flipId: string }
  | CanaryChange
  /** A larger share for the canary that runs. Only up, so that an attempt that was paused takes nothing back. */
  | { kind: 'ramp'; canaryId: string; share: number }
  | { kind: 'endCanary'; canaryId: string }
  /** The active version is known to be current up to a later watermark. Only forward in time. */
  | { kind: 'fresh'; expectedTag: string; freshAsOf: FreshAsOf; ttl?: Ttl | null }
  | { kind: 'hold'; hold: Hold }
  /** Lifts one of these holds and no other: the registry may have another name for the same one. */
  | { kind: 'resume'; holds: readonly Hold[] }
  | { kind: 'pin'; pin: Pin }
  /** Lifts this pin and no later one. An expired one is lifted so too: nothing here knows the time. */
  | { kind: 'unpin'; tag: string; until: string }
  | { kind: 'quarantine'; tag: string }
  | { kind: 'release'; tag: string }
  /** Rules out every flip of this epoch or a lower one that was not made yet; the version stays. */
  | { kind: 'fence'; epoch: Epoch }
  /** A person knows why the history does not lead to this anchor, by this entry of it. */
  | { kind: 'acceptAnchor'; anchor: Anchor; entry: Anchor }
  /** The first step of every deletion: from here on no flip, rollback, canary, pin or new lease takes the version. */
  | { kind: 'retire'; tag: string }
  /** Drops a retired tag whose manifest is gone. A quarantine outlives it: the version may come back from an archive. */
  | { kind: 'forget'; tag: string }

/** The whole former state, so that v1→v0→v1 lets nothing late through. Without a pointer: null and NO_EPOCH. */
export interface ExpectedState {
  tag: string | null
  epoch: Epoch
}

/** Flip and rollback alike. A rollback also holds the dataset and quarantines the version it leaves, in the same step. */
export interface FlipChange {
  kind: 'flip'
  flipId: string
  expected: ExpectedState
  to: VersionRef
  epoch: Epoch
  freshAsOf: FreshAsOf | null
  also?: { hold?: Hold; quarantine?: readonly string[] }
  /** A person's rollback works while the dataset is on hold. */
  allowHold?: boolean
  /** Declares a bake. */
  bakeUntil?: string
  /** Left out: as it was. */
  ttl?: Ttl | null
  anchor?: Anchor
  /** The pointer's anchor, where the registry's history does not lead to it. */
  contradicted?: Anchor
}

/** A rollback that asks no registry: the pointer takes its hold, its quarantine and its history entry in the same step. */
export interface BreakGlassChange {
  kind: 'breakGlass'
  flipId: string
  expected: { tag: string; epoch: Epoch }
  to: VersionRef
  freshAsOf: FreshAsOf | null
  by: string
  reason: string
  at: string
  /** The server that answers is not the one the pointer was written to: what was acknowledged may be undone. */
  rebound: boolean
}

/** Lets a share of the readers answer from a version that passed every gate but the canary's. Takes the place of a canary before. */
export interface CanaryChange {
  kind: 'canary'
  canaryId: string
  expected: ExpectedState
  version: VersionRef
  share: number
  salt: string
  since: string
  epoch: Epoch
}

/** Why a change is not made: the error that a caller throws. */
export type Refusal = { outcome: 'refused'; code: ErrorCode; message: string; details: ErrorDetails }
/** `already`: the pointer is as the change would have it, so a lost reply may be asked for again. */
export type ChangeOutcome =
  | { outcome: 'applied'; pointer: Pointer }
  | { outcome: 'already'; pointer: Pointer }
  | Refusal

export function applied(pointer: Pointer): ChangeOutcome {
  return { outcome: 'applied', pointer }
}

export function already(pointer: Pointer): ChangeOutcome {
  return { outcome: 'already', pointer }
}

export function refused(code: ErrorCode, message: string, details: ErrorDetails): Refusal {
  return { outcome: 'refused', code, message, details }
}
