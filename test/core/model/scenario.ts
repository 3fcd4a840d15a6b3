import type { Pointer } from '../../../schemas/pointer.ts'
import { isBehind } from '../../../src/core/asserted-pointer.ts'
import { compareEpoch } from '../../../src/core/pointer.ts'
import type { Program } from './actors.ts'
import { type Exploration, explore } from './explorer.ts'
import type { Guard } from './guards.ts'
import { knownPointer, mayRetire, openFlips } from './registry.ts'
import { type World, type WorldStep, worldOf } from './world.ts'

export interface Scenario {
  world: Omit<Parameters<typeof worldOf>[0], 'actors'>
  actors: Record<string, Program>
  /** Who may die at any step. */
  mortal?: readonly string[]
  /** Versions that a refresh may still flip to, by its name. */
  builds?: Record<number, string>
  /** What every run can still come to: that nothing is left that nobody needs, or that readers have a version again. */
  comesTo?: 'swept' | 'served'
}

export function run(scenario: Scenario, off: Guard | null): Exploration<World, WorldStep> {
  const { actors, mortal = [], builds = {} } = scenario
  return explore<World, WorldStep>({
    start: worldOf({ ...scenario.world, actors: Object.keys(actors) }),
    steps: (world) => [...stepsOf(world), ...faultsOf(world, mortal)],
    broken,
    ...(scenario.comesTo === 'swept' ? { rested: (world: World) => isSwept(world, isOwned(world)) } : {}),
    ...(scenario.comesTo === 'served' ? { rested: isServed } : {}),
  })

  function isOwned(world: World) {
    return (ordinal: number) => {
      const owner = builds[ordinal]
      return owner !== undefined && !['done', 'dead'].includes(world.actors[owner]?.pc ?? 'done')
    }
  }

  function stepsOf(world: World): WorldStep[] {
    return Object.entries(world.actors).flatMap(([name, me]) =>
      me.pc === 'done' || me.pc === 'dead'
        ? []
        : (actors[name] as Program)({ world, name, me, off, isOwned: isOwned(world) }),
    )
  }
}

/** Crashes, servers that come back with less than they acknowledged, a database that does. */
function faultsOf(world: World, mortal: readonly string[]): WorldStep[] {
  const { store, faults, registry, actors, ghost } = world
  const steps: WorldStep[] = []
  const fault = (label: string, to: World, act?: WorldStep['store']) =>
    steps.push({ actor: 'fault', label, to, ...(act === undefined ? {} : { store: act }) })
  if (faults.crashes > 0) {
    for (const name of mortal) {
      const { pc } = actors[name] ?? { pc: 'done' }
      if (['start', 'done', 'dead'].includes(pc)) continue
      const rest = { ...faults, crashes: faults.crashes - 1 }
      fault(`${name} dies`, { ...world, faults: rest, actors: { ...actors, [name]: { pc: 'dead' } } })
    }
  }
  for (const name of Object.keys(store.leases)) {
    if (actors[name]?.pc !== 'dead') continue
    const { [name]: _, ...leases } = store.leases
    fault(`the lease of ${name} ends`, { ...world, store: { ...store, leases } }, { act: 'drop', of: name })
  }
  const stale = Object.fromEntries(
    Object.entries(actors).map(([name, me]) => [name, me.stale === false ? { ...me, stale: true } : me]),
  )
  if (faults.failovers > 0 && store.before !== null) {
    const { pointer, ghost: back } = store.before
    const { flipId } = store.pointer as Pointer
    // What the registry has of it comes back with the repair.
    const isKnown = registry.flips.some((flip) => flip.flipId === flipId && flip.outcome === 'confirmed')
    const isLeft = (id: string) => back.made.some((made) => made.id === id)
    const made = ghost.made.map((flip) => ({ ...flip, isLost: flip.isLost || !isLeft(flip.id) }))
    fault(
      'the server fails over and loses its last write',
      {
        ...world,
        faults: { ...faults, failovers: faults.failovers - 1 },
        store: { ...store, pointer, bound: pointer === null, before: null },
        actors: stale,
        ghost: { ...(isKnown ? ghost : back), made, ruledOut: ghost.ruledOut },
      },
      { act: 'failover' },
    )
  }
  if (faults.losses > 0 && store.pointer !== null) {
    const has = (id: string) => registry.flips.some((flip) => flip.flipId === id && flip.outcome === 'confirmed')
    const { flipId } = store.pointer
    fault(
      'the server comes back without the pointer',
      {
        ...world,
        faults: { ...faults, losses: faults.losses - 1 },
        store: { ...store, pointer: null, bound: true, before: null },
        actors: stale,
        // What only the pointer had is gone with it.
        ghost: {
          ...ghost,
          made: ghost.made.map((flip) => ({ ...flip, isLost: flip.isLost || !has(flip.id) })),
          glass: ghost.glass.filter(has),
          stays: flipId !== null && has(flipId) ? ghost.stays : null,
        },
      },
      { act: 'lose' },
    )
  }
  if (faults.restores > 0 && registry.before !== null) {
    const rest = { ...faults, restores: faults.restores - 1 }
    fault('the database loses its last transaction', {
      ...world,
      faults: rest,
      registry: { ...registry.before, before: null },
    })
  }
  return steps
}

/** The promises that hold in every state (design.md, What must always hold). */
function broken(world: World): string | null {
  if (world.broken !== null) return world.broken
  const { store, registry, ghost } = world
  const { pointer } = store
  for (const [n, flip] of ghost.made.entries()) {
    for (const other of ghost.made.slice(0, n)) {
      if (compareEpoch(flip.epoch, other.epoch) === 0) return 'no two flips have one epoch'
      if (!flip.isLost && !other.isLost && compareEpoch(flip.on, other.on) === 0)
        return 'of concurrent flips from one state one wins'
    }
  }
  const isMade = (id: string) => ghost.made.some((made) => made.id === id && !made.isLost)
  const wasMade = (id: string) => ghost.made.some((made) => made.id === id)
  for (const { flipId, outcome } of registry.flips) {
    if (outcome === 'refused' && isMade(flipId)) return 'a flip that was made is never recorded as refused'
    if (outcome === 'confirmed' && !wasMade(flipId)) return 'a flip that was not made is never recorded as made'
  }
  for (const flipId of ghost.glass) {
    const isKept = pointer?.breakGlass.some((entry) => entry.flipId === flipId)
    if (!isKept && !registry.flips.some((flip) => flip.flipId === flipId)) return 'no break-glass rollback is lost'
  }
  return pointer === null ? null : brokenIn(world, pointer)
}

function brokenIn({ store, registry, ghost }: World, pointer: Pointer): string | null {
  const shown = { active: pointer.active, candidate: pointer.candidate?.version, pinned: pointer.pin?.version }
  for (const [role, version] of Object.entries({ ...shown, 'rollback target': pointer.previous })) {
    if (version == null) continue
    if (store.deleted.includes(version.ordinal)) return `nothing is deleted that is ${role}`
    if (pointer.retired.includes(version.tag)) return `nothing is retired that is ${role}`
    if (pointer.quarantined.includes(version.tag)) return `no quarantined version is ${role}`
    if (registry.states[version.ordinal] === 'rejected' && role === 'active') return 'no rejected version is active'
  }
  if (pointer.previous !== null && ghost.cut.includes(pointer.previous.ordinal))
    return 'the rollback target finished its bake'
  const known = knownPointer(registry)
  const isRepaired = store.bound && (known === null || !isBehind(pointer, known))
  if (!isRepaired) return null
  if (ghost.ruledOut.includes(pointer.active?.ordinal ?? 0)) return 'a quarantine stays'
  if (ghost.stays === null) return null
  if (pointer.candidate !== null) return 'a rollback stays, for every reader'
  return pointer.active === null || pointer.active.ordinal === ghost.stays ? null : 'a rollback stays'
}

/** The store has a version for its readers, no flip of it is missing, and no canary that ended is back. */
function isServed({ store, registry }: World): boolean {
  const known = knownPointer(registry)
  const { canary } = registry
  if (canary?.state === 'ended' && store.pointer?.candidate?.canaryId === canary.canaryId) return false
  return store.bound && store.pointer?.active != null && known !== null && !isBehind(store.pointer, known)
}

/** Nothing is there any more that nobody needs, and nobody is in the middle of something. */
function isSwept({ store, registry, actors }: World, isOwned: (ordinal: number) => boolean): boolean {
  const { pointer, leases, present } = store
  const isIdle = Object.values(actors).every(({ pc }) => ['start', 'done', 'dead'].includes(pc))
  if (!isIdle || pointer === null || openFlips(registry).length > 0) return false
  if (pointer.candidate !== null || pointer.pin !== null) return false
  const named = [pointer.active?.ordinal, pointer.previous?.ordinal, ...Object.values(leases)]
  const isTarget = (ordinal: number) => registry.states[ordinal] === 'retained' && !mayRetire(registry, ordinal, null)
  return present.every((ordinal) => named.includes(ordinal) || isOwned(ordinal) || isTarget(ordinal))
}
