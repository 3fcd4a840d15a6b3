import type { Pointer } from '../../../schemas/pointer.ts'
import {
  applyChange,
  type ChangeOutcome,
  compareEpoch,
  emptyPointer,
  type PointerChange,
} from '../../../src/core/pointer.ts'
import { DATASET } from '../pointers.ts'

/** Each is one line of defence. The explorer shows what breaks without it. */
export const GUARDS = {
  // In applyChange
  expected: 'a flip expects the whole former state',
  epoch: "a flip's epoch is higher than the pointer's",
  flipId: 'the pointer remembers which flips were made',
  retired: 'nothing goes to a retired version',
  quarantined: 'nothing goes to a quarantined version',
  hold: 'no flip of a refresh is made on hold',
  unabsorbed: 'no flip of the registry is made over a break-glass rollback that it does not have',
  leap: 'a break-glass rollback leaps over the counts that may be undone',
  retireActive: 'the active version is not retired',
  retirePrevious: 'the rollback target is not retired',
  retireCandidate: 'the candidate is not retired',
  retirePinned: 'the pinned version is not retired',
  quarantineEndsCanary: 'a quarantine ends the canary of its version',
  flipEndsCanary: 'a flip ends the canary',
  liftsPin: 'a rollback lifts the pin on the version it leaves',
  bake: 'a version that did not finish its bake is no rollback target while there is another',
  // In assertedPointer
  keepsBreakGlass: 'a repair keeps a break-glass rollback that the registry does not have',
  keepsProhibitions: 'a repair brings back quarantines that were undone',
  activeNotRetired: 'a repair never takes the active version for retired',
  aboveIssued: 'a repair is above every flip from before',
  hasFlip: 'a pointer without the last confirmed flip is behind, whatever its epoch',
  settlesFirst: 'a repair undoes no flip that only the pointer has',
  joinsFlips: 'a repair remembers the flips that nobody has recorded yet',
  // In the drivers
  compareAndSet: 'a swap compares the token',
  bound: 'a swap is made only in the server that was written to',
  // In the order of steps
  fence: 'a flip that is given up is ruled out before its outcome is recorded',
  readOutcome: 'the outcome of a flip is read, never guessed',
  leaseFirst: 'a reader writes its lease, then reads the pointer',
  leaseRefusesRetired: 'a reader gives up a lease on a retired version',
  markFirst: 'a version is marked retired before leases are listed',
  leasesListed: 'a leased version is not deleted',
  tokenFirst: 'a version is looked for between reading the pointer and setting it',
  absorbFirst: 'the registry has a break-glass rollback before it leaves the pointer',
  absorbSettled: 'the registry absorbs nothing while a flip is open',
  lowerEpoch: 'a reader follows no lower epoch than it has seen',
  // In the registry
  passed: 'the registry flips to no version that did not pass its gates',
  openFlip: 'the registry retires no version that an open flip needs',
  cleansCanary: 'the canary of a refresh that died is ended',
  unpins: 'a pin that expired is lifted',
} as const
export type Guard = keyof typeof GUARDS

type Hidden = Partial<Pointer>

/** What the guard is kept from seeing in the pointer, for this change. */
function hiddenFrom(off: Guard | null, now: Pointer, change: PointerChange): Hidden {
  const shows = ['flip', 'breakGlass', 'canary', 'pin'].includes(change.kind)
  if (off === 'retired' && shows) return { retired: [] }
  if (off === 'quarantined' && shows) return { quarantined: [] }
  if (off === 'unabsorbed' && (change.kind === 'flip' || change.kind === 'canary')) return { breakGlass: [] }
  if (off === 'flipId' && change.kind === 'flip') return { flips: [] }
  if (off === 'bake' && change.kind === 'flip') return { bake: null }
  if (off === 'epoch' && change.kind === 'flip' && compareEpoch(change.epoch, now.epoch) <= 0)
    return { epoch: { registry: change.epoch.registry - 1, breakGlass: 0 } }
  if (change.kind !== 'retire') return {}
  if (off === 'retireActive') return { active: null }
  if (off === 'retirePrevious') return { previous: null }
  if (off === 'retireCandidate') return { candidate: null }
  if (off === 'retirePinned') return { pin: null }
  return {}
}

/** The change as it would be asked for without the guard. */
function askedWithout(off: Guard | null, now: Pointer, seen: Pointer, change: PointerChange): PointerChange {
  if (change.kind === 'breakGlass') return off === 'leap' ? { ...change, at: '1970-01-01T00:00:00Z' } : change
  if (change.kind !== 'flip') return change
  if (off === 'hold') return { ...change, allowHold: true }
  if (off === 'expected') return { ...change, expected: { tag: now.active?.tag ?? null, epoch: now.epoch } }
  if (off === 'epoch' && compareEpoch(change.expected.epoch, now.epoch) === 0)
    return { ...change, expected: { ...change.expected, epoch: seen.epoch } }
  return change
}

/** What was hidden is there again afterwards. */
function restored(off: Guard | null, now: Pointer, hidden: Hidden, next: Pointer, change: PointerChange): Pointer {
  const union = (a: readonly string[], b: readonly string[]) => [...new Set([...a, ...b])]
  if (change.kind === 'retire') return { ...next, ...pick(now, hidden) }
  if (hidden.retired) return { ...next, retired: now.retired }
  if (hidden.quarantined) return { ...next, quarantined: union(now.quarantined, next.quarantined) }
  if (hidden.breakGlass) return { ...next, breakGlass: now.breakGlass }
  if (hidden.flips) return { ...next, flips: [...next.flips, ...now.flips] }
  const isFlip = change.kind === 'flip' || change.kind === 'breakGlass'
  if (off === 'flipEndsCanary' && isFlip) return { ...next, candidate: now.candidate }
  if (off === 'liftsPin' && isFlip) return { ...next, pin: now.pin }
  if (off === 'quarantineEndsCanary' && change.kind === 'quarantine') return { ...next, candidate: now.candidate }
  return next
}

function pick(now: Pointer, hidden: Hidden): Hidden {
  return Object.fromEntries(Object.keys(hidden).map((field) => [field, now[field as keyof Pointer]]))
}

/** `applyChange`, with one of its guards switched off. */
export function decide(pointer: Pointer | null, change: PointerChange, off: Guard | null): ChangeOutcome {
  if (off === null) return applyChange(pointer, change, DATASET)
  const now = pointer ?? emptyPointer(DATASET)
  const hidden = hiddenFrom(off, now, change)
  const seen = { ...now, ...hidden }
  const outcome = applyChange(seen, askedWithout(off, now, seen, change), DATASET)
  if (outcome.outcome === 'refused') return outcome
  return { ...outcome, pointer: restored(off, now, hidden, outcome.pointer, change) }
}
