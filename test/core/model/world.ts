import type { Epoch, Hold, Pointer } from '../../../schemas/pointer.ts'
import { compareEpoch, emptyPointer, type PointerChange } from '../../../src/core/pointer.ts'
import { DATASET, epoch, tagOf, version } from '../pointers.ts'
import { type Registry, SINCE } from './registry.ts'

/** One store, one registry and those who act on them, as plain JSON. Versions are their ordinals. */
export interface World {
  store: Store
  registry: Registry
  actors: Record<string, Actor>
  /** How much may still go wrong. */
  faults: { crashes: number; lostReplies: number; failovers: number; losses: number; restores: number }
  ghost: Ghost
  /** A promise that a step broke. */
  broken: string | null
}

export interface Store {
  pointer: Pointer | null
  /** Versions whose manifest and blocks are there. */
  present: readonly number[]
  /** Versions that a sweep has deleted: those a server lost are not among them. */
  deleted: readonly number[]
  leases: Record<string, number>
  bound: boolean
  /** What comes back when the last write was not replicated. */
  before: { pointer: Pointer | null; ghost: Ghost } | null
}

export interface Actor {
  pc: string
  /** What it decided on, and whether nobody has written since it read. */
  pending?: Pointer | undefined
  stale?: boolean | undefined
  expected?: { tag: string | null; epoch: Epoch } | undefined
  to?: number | undefined
  epoch?: Epoch | undefined
  known?: Pointer | null | undefined
  seen?: Epoch | undefined
  flipIds?: readonly string[] | undefined
  read?: Pointer | undefined
  holds?: readonly Hold[] | undefined
}

/** What happened, for the promises; no actor looks at it. */
export interface Ghost {
  /** Flips and canaries that were made, in this order, with the epoch of the state that each was planned on. */
  made: ReadonlyArray<{ id: string; epoch: Epoch; on: Epoch; isLost: boolean }>
  glass: readonly string[]
  /** Where the last rollback went, until a person resumes. */
  stays: number | null
  /** Versions whose bake was cut short. */
  cut: readonly number[]
  /** Versions of which a person was told that they are quarantined. */
  ruledOut: readonly number[]
}

/** What a step did with the store, for the replay on real drivers. */
export type StoreAct =
  | { act: 'read'; found: Pointer | null }
  | { act: 'decide'; found: Pointer | null; change: PointerChange; outcome: string; pending?: Pointer | undefined }
  | { act: 'swap'; next: Pointer; outcome: 'set' | 'moved' | 'rebound' }
  | { act: 'rebind'; next: Pointer; outcome: 'set' | 'moved' }
  | { act: 'manifest'; of: number; found: boolean }
  | { act: 'delete'; of: number }
  | { act: 'lease'; of: number }
  | { act: 'drop'; of: string }
  | { act: 'leases'; found: readonly number[] }
  | { act: 'failover' }
  | { act: 'lose' }

export interface WorldStep {
  label: string
  to: World
  actor: string
  store?: StoreAct
}

/** A store and a registry that agree: version `active` came after `previous`, all flipped to in turn. */
export function worldOf({
  versions,
  active,
  previous,
  actors,
  faults = {},
  pointer = {},
}: {
  versions: Registry['states']
  active: number
  previous: number
  actors: readonly string[]
  faults?: Partial<World['faults']>
  pointer?: Partial<Pointer>
}): World {
  const first = epoch(1)
  return {
    store: {
      pointer: {
        ...emptyPointer(DATASET),
        active: version(active),
        previous: version(previous),
        epoch: first,
        flipId: 'first',
        flips: [{ flipId: 'first', tag: tagOf(active) }],
        ...pointer,
      },
      present: Object.keys(versions).map(Number),
      deleted: [],
      leases: {},
      bound: true,
      before: null,
    },
    registry: {
      issued: 1,
      states: versions,
      flips: [{ flipId: 'first', kind: 'flip', from: previous, to: active, epoch: first, outcome: 'confirmed' }],
      hold: null,
      quarantined: [],
      canary: null,
      before: null,
    },
    actors: Object.fromEntries(actors.map((name) => [name, { pc: 'start' }])),
    faults: { crashes: 0, lostReplies: 0, failovers: 0, losses: 0, restores: 0, ...faults },
    ghost: {
      made: [{ id: 'first', epoch: first, on: epoch(0), isLost: false }],
      glass: [],
      stays: null,
      cut: [],
      ruledOut: [],
    },
    broken: null,
  }
}

export function ordinalOf(tag: string): number {
  return Number(tag.slice(-2))
}

export function withActor(world: World, name: string, actor: Actor): World {
  return { ...world, actors: { ...world.actors, [name]: actor } }
}

/** Every token that was read before is worth nothing now. */
function outdated(actors: World['actors']): World['actors'] {
  return Object.fromEntries(
    Object.entries(actors).map(([name, actor]) => [name, actor.stale === false ? { ...actor, stale: true } : actor]),
  )
}

/** The store has this pointer now. What the write breaks is told here, where the change is known. */
export function written(world: World, next: Pointer, change: PointerChange | 'assert'): World {
  const { store, ghost } = world
  const now = store.pointer ?? emptyPointer(DATASET)
  return {
    ...world,
    store: { ...store, pointer: next, before: world.faults.failovers > 0 ? { pointer: store.pointer, ghost } : null },
    actors: outdated(world.actors),
    ghost: seenBy(ghost, now, next, change),
    broken: brokenBy(world, now, next, change),
  }
}

function brokenBy(world: World, now: Pointer, next: Pointer, change: PointerChange | 'assert'): string | null {
  if (compareEpoch(next.epoch, now.epoch) < 0) return 'epochs only rise'
  if (change === 'assert') return null
  const isAutomatic = (change.kind === 'flip' && change.allowHold !== true) || change.kind === 'canary'
  if (isAutomatic && world.ghost.stays !== null) return 'a rollback stays'
  if (change.kind !== 'flip' && change.kind !== 'canary') return null
  return now.breakGlass.length > 0 ? 'the registry has every break-glass rollback before its next flip' : null
}

function seenBy(ghost: Ghost, now: Pointer, next: Pointer, change: PointerChange | 'assert'): Ghost {
  if (change === 'assert') return ghost
  if (change.kind === 'resume') return { ...ghost, stays: null }
  if (change.kind !== 'flip' && change.kind !== 'breakGlass' && change.kind !== 'canary') return ghost
  const id = change.kind === 'canary' ? change.canaryId : change.flipId
  const made = [...ghost.made, { id, epoch: next.epoch, on: change.expected.epoch, isLost: false }]
  if (change.kind === 'canary') return { ...ghost, made }
  const isRollback = change.kind === 'breakGlass' || change.also?.hold !== undefined
  return {
    ...ghost,
    made,
    glass: change.kind === 'breakGlass' ? [...ghost.glass, id] : ghost.glass,
    stays: isRollback ? change.to.ordinal : ghost.stays,
    cut: now.bake !== null && now.active !== null ? [...ghost.cut, now.active.ordinal] : ghost.cut,
  }
}

export function asHold(by: string): Hold {
  return { by, reason: 'bad', at: SINCE }
}
