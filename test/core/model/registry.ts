import type { Epoch, Hold, Pointer } from '../../../schemas/pointer.ts'
import { compareEpoch, emptyPointer } from '../../../src/core/pointer.ts'
import type { VersionState } from '../../../src/core/version-state.ts'
import { DATASET, tagOf, version } from '../pointers.ts'
import type { Guard } from './guards.ts'

/** What the registry's transactions do, each of them one step. They lock the dataset, so they are taken in some order. */
export interface Registry {
  issued: number
  states: Record<number, VersionState>
  flips: readonly Flip[]
  hold: Hold | null
  quarantined: readonly number[]
  canary: { canaryId: string; to: number; epoch: Epoch; state: 'open' | 'running' | 'ended'; share: number } | null
  /** What a restored database comes back to. */
  before: Omit<Registry, 'before'> | null
}

export interface Flip {
  flipId: string
  kind: 'flip' | 'rollback'
  from: number | null
  to: number
  epoch: Epoch
  outcome: 'confirmed' | 'refused' | null
}

export const openFlips = (registry: Registry) => registry.flips.filter((flip) => flip.outcome === null)

/** Epochs are issued here and nowhere else. Null: refused. */
export function intendFlip(
  registry: Registry,
  asked: Pick<Flip, 'flipId' | 'kind' | 'from' | 'to'>,
  off: Guard | null,
): { registry: Registry; epoch: Epoch; outcome: Flip['outcome'] } | null {
  const known = registry.flips.find((flip) => flip.flipId === asked.flipId)
  if (known !== undefined) return { registry, epoch: known.epoch, outcome: known.outcome }
  const state = registry.states[asked.to] as VersionState
  if (state === 'retired' || state === 'swept' || registry.quarantined.includes(asked.to)) return null
  if (asked.kind === 'flip') {
    if (registry.hold !== null) return null
    if (state !== 'sealed' && state !== 'candidate' && off !== 'passed') return null
  } else if ((state !== 'retained' && state !== 'active') || asked.to === asked.from) return null
  const issued = registry.issued + 1
  const epoch = { registry: issued, breakGlass: 0 }
  const flips = [...registry.flips, { ...asked, epoch, outcome: null }]
  return { registry: { ...registry, issued, flips }, epoch, outcome: null }
}

/** A flip that was settled otherwise, or that a restored registry does not know, changes nothing. */
export function settleFlip(
  registry: Registry,
  flipId: string,
  outcome: 'confirmed' | 'refused',
  hold: Hold | null,
): Registry {
  const flip = registry.flips.find((flip) => flip.flipId === flipId)
  if (flip === undefined || flip.outcome !== null) return registry
  const flips = registry.flips.map((other) => (other === flip ? { ...flip, outcome } : other))
  const settled = { ...registry, flips }
  return outcome === 'refused' ? settled : moveVersions(settled, { ...flip, outcome }, hold)
}

function moveVersions(registry: Registry, flip: Flip, hold: Hold | null): Registry {
  const { kind, from, to, epoch } = flip
  const isLatest = registry.flips.every(
    (other) => other.outcome !== 'confirmed' || compareEpoch(other.epoch, epoch) <= 0,
  )
  const states = { ...registry.states }
  const quarantined = kind === 'rollback' && from !== null ? [from] : []
  for (const left of quarantined) {
    const state = states[left]
    if (state === 'retired' || state === 'swept' || (state === 'active' && !isLatest)) continue
    states[left] = 'quarantined'
  }
  if (isLatest) {
    for (const [other, state] of Object.entries(states)) {
      if (state !== 'active' || Number(other) === to) continue
      states[Number(other)] = registry.quarantined.includes(Number(other)) ? 'quarantined' : 'retained'
    }
    states[to] = 'active'
  } else if (states[to] === 'sealed' || states[to] === 'candidate') states[to] = 'retained'
  return {
    ...registry,
    states,
    hold: hold ?? registry.hold,
    quarantined: [...new Set([...registry.quarantined, ...quarantined])].sort(),
  }
}

/** What neither an open flip nor the next rollback needs. False: it is needed. */
export function mayRetire(registry: Registry, ordinal: number, off: Guard | null): boolean {
  const { states, flips } = registry
  const state = states[ordinal]
  if (state === 'active' || state === 'candidate' || state === 'swept') return false
  if (state === 'retired') return true
  const isOpen = openFlips(registry).some((flip) => flip.to === ordinal || flip.from === ordinal)
  if (isOpen && off !== 'openFlip') return false
  if (state !== 'retained') return true
  const last = confirmed(flips).at(-1)
  const active = Number(Object.keys(states).find((other) => states[Number(other)] === 'active') ?? 0)
  const target = Object.keys(states)
    .map(Number)
    .filter((other) => states[other] === 'retained' && other < active)
    .at(-1)
  return last?.from !== ordinal && target !== ordinal
}

/**
 * Break-glass rollbacks, oldest first, in one transaction. Not while a flip is open: one that was made, undone by a failover and recorded
 * as made only after this would come after a rollback that a person made last.
 */
export function absorb(registry: Registry, entries: Pointer['breakGlass']): Registry {
  let next = registry
  for (const { flipId, from, to, epoch, by, reason, at } of entries.toReversed()) {
    if (next.flips.some((flip) => flip.flipId === flipId)) continue
    const flip = { flipId, kind: 'rollback' as const, from: ordinal(from), to: ordinal(to), epoch, outcome: null }
    next = settleFlip({ ...next, flips: [...next.flips, flip] }, flipId, 'confirmed', { by, reason, at })
  }
  return next
}

/** As src/registry/known-pointer.ts, with the canary. */
export function knownPointer(registry: Registry): Pointer | null {
  const made = confirmed(registry.flips).toReversed()
  const [last] = made
  if (last === undefined) return null
  const { states, quarantined, canary } = registry
  const retained = Object.keys(states)
    .map(Number)
    .filter((other) => states[other] === 'retained' && !quarantined.includes(other))
    .toReversed()
  const previous = retained.find((other) => other === last.from) ?? retained.find((other) => other < last.to)
  const later = canary?.state === 'running' && compareEpoch(canary.epoch, last.epoch) > 0 ? canary : null
  return {
    ...emptyPointer(DATASET),
    active: version(last.to),
    previous: previous === undefined ? null : version(previous),
    epoch: later?.epoch ?? last.epoch,
    flipId: last.flipId,
    flips: made.map(({ flipId, to }) => ({ flipId, tag: tagOf(to) })),
    hold: registry.hold,
    quarantined: quarantined.map(tagOf),
    retired: Object.keys(states)
      .map(Number)
      .filter((other) => states[other] === 'retired')
      .map(tagOf),
    candidate:
      later !== null
        ? { version: version(later.to), share: later.share, salt: 's', canaryId: later.canaryId, since: SINCE }
        : null,
  }
}

export const SINCE = '2026-05-18T10:00:00Z'

function confirmed(flips: readonly Flip[]): Flip[] {
  return flips.filter((flip) => flip.outcome === 'confirmed').toSorted((a, b) => compareEpoch(a.epoch, b.epoch))
}

function ordinal(tag: string): number {
  return Number(tag.slice(-2))
}
