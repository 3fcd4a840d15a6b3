import { type FreshAsOf, type Hold, type Pin, POINTER_WRITER, type Pointer, type Ttl } from '../../schemas/pointer.ts'
import { acceptAnchor } from './anchor.ts'
import { canary, ramp } from './canary.ts'
import { compareEpoch, formatEpoch, NO_EPOCH } from './epoch.ts'
import { forbiddenVersion } from './fenced.ts'
import { breakGlass, flip } from './flip.ts'
import { forbidding } from './forbidden.ts'
import { already, applied, type ChangeOutcome, type PointerChange, type Refusal, refused } from './pointer-change.ts'

export { compareEpoch, formatEpoch, NO_EPOCH } from './epoch.ts'
export type { BreakGlassChange, CanaryChange, ChangeOutcome, FlipChange, PointerChange } from './pointer-change.ts'

/**
 * All decisions about the pointer. Stores only compare and set; whether a change may be made, and what the pointer is
 * afterwards, is decided here, the same for every store.
 */

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
    candidate: null,
    pin: null,
    bake: null,
    ttl: null,
    anchor: null,
    contradicted: [],
    breakGlass: [],
  }
}

/** Null where this code may change the pointer; a newer snapflip may have put into it what must not outlive a change. */
export function tooNewToChange({ dataset, minWriter = 1 }: Pointer): Refusal | null {
  if (minWriter <= POINTER_WRITER) return null
  return refused(
    'FORMAT_TOO_NEW',
    `Pointer of ${dataset} may be changed by writers of format ${minWriter} or newer, this one is of ${POINTER_WRITER}. Upgrade snapflip where this runs.`,
    { dataset, needed: minWriter, found: POINTER_WRITER },
  )
}

/** Decides a change. `pointer` is what the store has (null: nothing yet); it is never modified. */
export function applyChange(pointer: Pointer | null, change: PointerChange, dataset: string): ChangeOutcome {
  const now = pointer ?? emptyPointer(dataset)
  const refusal = tooNewToChange(now)
  if (refusal !== null) return refusal
  switch (change.kind) {
    case 'flip':
      return flip(now, change)
    case 'breakGlass':
      return breakGlass(now, change)
    case 'absorb': {
      const left = now.breakGlass.filter((entry) => !change.flipIds.includes(entry.flipId))
      return left.length === now.breakGlass.length ? already(now) : applied({ ...now, breakGlass: left })
    }
    case 'baked':
      return now.bake?.flipId === change.flipId ? applied({ ...now, bake: null }) : already(now)
    case 'canary':
      return canary(now, change)
    case 'ramp':
      return ramp(now, change)
    case 'endCanary':
      return now.candidate?.canaryId === change.canaryId ? applied({ ...now, candidate: null }) : already(now)
    case 'fresh':
      return fresh(now, change)
    case 'hold':
      return sameHold(now.hold, change.hold) ? already(now) : applied(forbidding({ ...now, hold: change.hold }, now))
    case 'resume':
      return change.holds.some((hold) => sameHold(now.hold, hold)) ? applied({ ...now, hold: null }) : already(now)
    case 'pin':
      return pin(now, change.pin)
    case 'unpin':
      return now.pin?.version.tag === change.tag && now.pin.until === change.until
        ? applied({ ...now, pin: null })
        : already(now)
    case 'quarantine':
      return quarantine(now, change.tag)
    case 'release':
      return now.quarantined.includes(change.tag)
        ? applied({ ...now, quarantined: now.quarantined.filter((tag) => tag !== change.tag) })
        : already(now)
    case 'fence':
      return compareEpoch(change.epoch, now.epoch) <= 0 ? already(now) : applied({ ...now, epoch: change.epoch })
    case 'acceptAnchor':
      return acceptAnchor(now, change)
    case 'retire':
      return retire(now, change.tag)
    case 'forget':
      return now.retired.includes(change.tag)
        ? applied({ ...now, retired: now.retired.filter((tag) => tag !== change.tag) })
        : already(now)
  }
}

function fresh(
  now: Pointer,
  { expectedTag, freshAsOf, ttl }: { expectedTag: string; freshAsOf: FreshAsOf; ttl?: Ttl | null },
): ChangeOutcome {
  if (now.active?.tag !== expectedTag) {
    return refused(
      'CONFLICT',
      `Pointer of ${now.dataset} is at ${now.active?.tag ?? 'no version'} (epoch ${formatEpoch(now.epoch)}), expected ${expectedTag}. ` +
        `Another flip came first; see \`snapflip status ${now.dataset}\`.`,
      { dataset: now.dataset, activeTag: now.active?.tag ?? null, expectedTag },
    )
  }
  if (now.freshAsOf !== null && Date.parse(freshAsOf.at) <= Date.parse(now.freshAsOf.at)) return already(now)
  return applied({ ...now, freshAsOf, ttl: ttl === undefined ? now.ttl : ttl })
}

function pin(now: Pointer, wanted: Pin): ChangeOutcome {
  const { tag } = wanted.version
  const refusal = forbiddenVersion(now.dataset, { ...now, tag }, { dataset: now.dataset, tag })
  if (refusal !== null) return refusal
  return samePin(now.pin, wanted) ? already(now) : applied({ ...now, pin: wanted })
}

function quarantine(now: Pointer, tag: string): ChangeOutcome {
  if (now.quarantined.includes(tag)) return already(now)
  if (now.active?.tag === tag) {
    return refused(
      'CONFLICT',
      `${tag} is active in ${now.dataset}, expected a version that is not. \`snapflip rollback ${now.dataset}\` leaves it and quarantines it in one step.`,
      { dataset: now.dataset, tag },
    )
  }
  return applied(forbidding(now, { ...now, quarantined: [...now.quarantined, tag] }))
}

function retire(now: Pointer, tag: string): ChangeOutcome {
  const role = roleOf(now, tag)
  if (role !== null) {
    return refused(
      'CONFLICT',
      `${tag} is ${role} of ${now.dataset}, expected a version that readers and rollbacks no longer need.`,
      { dataset: now.dataset, tag, role },
    )
  }
  return now.retired.includes(tag) ? already(now) : applied({ ...now, retired: [...now.retired, tag] })
}

function roleOf({ active, previous, candidate, pin }: Pointer, tag: string): string | null {
  if (active?.tag === tag) return 'active'
  if (previous?.tag === tag) return 'the rollback target'
  if (candidate?.version.tag === tag) return 'the candidate'
  if (pin?.version.tag === tag) return 'the pinned version'
  return null
}

function sameHold(a: Hold | null, b: Hold): boolean {
  return a !== null && a.by === b.by && a.reason === b.reason && a.at === b.at
}

function samePin(a: Pin | null, b: Pin): boolean {
  return a !== null && a.version.tag === b.version.tag && a.until === b.until && a.by === b.by && a.reason === b.reason
}
