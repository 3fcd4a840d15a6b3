import type { Epoch, Pointer } from '../../../schemas/pointer.ts'
import { assertedPointer, isBehind as isReallyBehind, isUnsettled } from '../../../src/core/asserted-pointer.ts'
import { compareEpoch, NO_EPOCH, type PointerChange } from '../../../src/core/pointer.ts'
import { tagOf, version } from '../pointers.ts'
import { decide, type Guard } from './guards.ts'
import { absorb, intendFlip, knownPointer, mayRetire, openFlips, type Registry, SINCE, settleFlip } from './registry.ts'
import {
  type Actor,
  asHold,
  ordinalOf,
  type StoreAct,
  type World,
  type WorldStep,
  withActor,
  written,
} from './world.ts'

/** The steps that an actor can take now. An actor that waits for another has none. */
export type Program = (turn: Turn) => WorldStep[]

export interface Turn {
  world: World
  name: string
  me: Actor
  off: Guard | null
  /** Whether whoever builds this version may still flip to it. */
  isOwned: (ordinal: number) => boolean
}

/** A refresh from its plan to the outcome of its flip. */
export const flipper =
  ({ to, bake = false }: { to: number; bake?: boolean }): Program =>
  (turn) => {
    const { me, name } = turn
    const flipId = name
    if (me.pc === 'start') return plan(turn, to, 'intend')
    return makeFlip(turn, { flipId, kind: 'flip', from: fromOf(me), to }, (flip) => ({
      ...flip,
      ...(bake ? { bakeUntil: SINCE } : {}),
    }))
  }

/** Readers bake the version that this flip made active; it stands it. */
export const baker =
  (flipId: string): Program =>
  (turn) =>
    turn.me.pc === 'start' && turn.world.store.pointer?.bake?.flipId !== flipId
      ? []
      : changing(turn, { read: 'start', swap: 'swap' }, { kind: 'baked', flipId }, (world) => done(world, turn.name))

/** A person's rollback by way of the registry. */
export const rollbacker =
  ({ to, from }: { to?: number; from?: number } = {}): Program =>
  (turn) => {
    const { world, me, name, off } = turn
    const { pointer, bound } = world.store
    if (me.pc === 'start') {
      const known = knownPointer(world.registry)
      if (pointer === null || pointer.active === null || !bound || (known && isBehind(pointer, known, off))) return []
      const target = to ?? pointer.previous?.ordinal
      if (target === undefined || (from !== undefined && pointer.active.ordinal !== from))
        return [step(turn, 'finds nothing to go back to', done(world, name), { act: 'read', found: pointer })]
      const next = { ...me, pc: 'manifest', expected: expectedOf(pointer), to: target }
      return [step(turn, 'reads the pointer', withActor(world, name, next), { act: 'read', found: pointer })]
    }
    if (me.pc === 'manifest') return lookedFor(turn, me.to as number, { ...me, pc: 'intend' })
    const also = { hold: asHold(name), quarantine: [me.expected?.tag as string] }
    const intent = { flipId: name, kind: 'rollback' as const, from: fromOf(me), to: me.to as number }
    return makeFlip(turn, intent, (flip) => ({ ...flip, also, allowHold: true }))
  }

/** A person's rollback without the registry. */
export const breakGlass =
  ({ to, at, waits = false }: { to?: number; at: string; waits?: boolean }): Program =>
  (turn) => {
    const { world, me, name, off } = turn
    const { pointer, bound } = world.store
    if (waits && !bound) return []
    const changeFor = (): PointerChange | null => {
      const target = me.to ?? to ?? pointer?.previous?.ordinal
      if (pointer === null || pointer.active === null || target === undefined) return null
      return {
        kind: 'breakGlass',
        flipId: name,
        expected: { tag: pointer.active.tag, epoch: pointer.epoch },
        to: version(target),
        freshAsOf: null,
        by: name,
        reason: 'bad',
        at,
        rebound: !bound,
      }
    }
    if (me.pc === 'start' || me.pc === 'again') {
      const change = changeFor()
      if (change?.kind !== 'breakGlass')
        return pointer === null
          ? []
          : [step(turn, 'finds nothing to go back to', done(world, name), { act: 'read', found: pointer })]
      if (off === 'tokenFirst' && me.pc === 'start')
        return lookedFor(turn, change.to.ordinal, { ...me, pc: 'again', to: change.to.ordinal })
      const outcome = decide(pointer, change, off)
      const told = outcome.outcome === 'refused' ? outcome.code : outcome.outcome
      const act: StoreAct = { act: 'decide', found: pointer, change, outcome: told, pending: pendingOf(outcome) }
      if (outcome.outcome !== 'applied') return [step(turn, `decides breakGlass: ${told}`, done(world, name), act)]
      const pc = off === 'tokenFirst' ? 'swap' : 'manifest'
      const next = { pc, pending: outcome.pointer, stale: false, to: change.to.ordinal }
      return [step(turn, 'decides breakGlass: applied', withActor(world, name, next), act)]
    }
    if (me.pc === 'manifest') return lookedFor(turn, me.to as number, { ...me, pc: 'swap' })
    if (me.pc !== 'swap') return []
    const entry = (me.pending as Pointer).breakGlass[0]
    // Made from what the pointer was when this was decided, which a write without a token may not find again.
    const change = { ...(changeFor() as object), kind: 'breakGlass', flipId: name, to: version(me.to as number) }
    return swapping(turn, 'start', change as PointerChange, (next) => done(next, name), entry?.rebound === true)
  }

/** What the registry does when it is back: it takes the entries over, then they leave the pointer. */
export const absorber: Program = (turn) => {
  const { world, me, name, off } = turn
  const { pointer, bound } = world.store
  const known = knownPointer(world.registry)
  const isFree = (read: Pointer) =>
    off === 'absorbSettled' || (openFlips(world.registry).length === 0 && known !== null && !isBehind(read, known, off))
  if (me.pc === 'start') {
    if (pointer === null || pointer.breakGlass.length === 0 || !bound || !isFree(pointer)) return []
    const flipIds = pointer.breakGlass.map((entry) => entry.flipId)
    const next = { pc: off === 'absorbFirst' ? 'read' : 'registry', read: pointer, flipIds }
    return [step(turn, 'reads the entries', withActor(world, name, next), { act: 'read', found: pointer })]
  }
  const again = (next: World) => withActor(next, name, { pc: 'start' })
  if (me.pc === 'registry') {
    const read = me.read as Pointer
    if (!isFree(read)) return [step(turn, 'finds a flip open', again(world))]
    const next = hasAll(inRegistry(world, absorb(world.registry, read.breakGlass)), read)
    return [step(turn, 'absorbs', off === 'absorbFirst' ? again(next) : withActor(next, name, { ...me, pc: 'read' }))]
  }
  return changing(turn, { read: 'read', swap: 'swap' }, { kind: 'absorb', flipIds: me.flipIds ?? [] }, (next) =>
    off === 'absorbFirst' ? withActor(next, name, { ...me, ...CLEARED, pc: 'registry' }) : again(next),
  )
}

/** Those too that a failover undid after they were read. */
function hasAll(world: World, read: Pointer): World {
  const glass = [...new Set([...world.ghost.glass, ...read.breakGlass.map((entry) => entry.flipId)])]
  return { ...world, ghost: { ...world.ghost, glass } }
}

/** Brings the store's pointer back to what the registry confirmed. The registry is read first. */
export const reconciler: Program = (turn) => {
  const { world, me, name, off } = turn
  const { pointer, bound } = world.store
  const restart = (next: World) => withActor(next, name, { pc: 'start' })
  if (me.pc === 'start') {
    const known = knownPointer(world.registry)
    if (known === null || (pointer !== null && bound && !isBehind(pointer, known, off))) return []
    return [step(turn, 'reads the registry', withActor(world, name, { pc: 'store', known }))]
  }
  const known = me.known as Pointer
  if (me.pc === 'store') {
    const act: StoreAct = { act: 'read', found: pointer }
    const last = world.registry.flips.find((flip) => flip.flipId === pointer?.flipId)
    if (last !== undefined && isUnsettled(pointer, known) && off !== 'settlesFirst') {
      const hold = last.kind === 'rollback' ? (pointer?.hold ?? null) : null
      const settled = inRegistry(world, settleFlip(world.registry, last.flipId, 'confirmed', hold))
      return [step(turn, 'settles what was made', restart(settled), act)]
    }
    if (pointer !== null && bound && !isBehind(pointer, known, off))
      return [step(turn, 'finds nothing wrong', restart(world), act)]
    const pending = asserted(pointer, known, world.registry, off)
    const next = { ...me, pc: 'assert', pending, stale: false }
    return [step(turn, 'reads the store', withActor(world, name, next), act)]
  }
  const next = me.pending as Pointer
  if (me.stale === true && off !== 'compareAndSet')
    return [
      step(
        turn,
        'comes too late',
        restart(world),
        bound || pointer === null ? { act: 'swap', next, outcome: 'moved' } : { act: 'rebind', next, outcome: 'moved' },
      ),
    ]
  const act: StoreAct =
    bound || pointer === null ? { act: 'swap', next, outcome: 'set' } : { act: 'rebind', next, outcome: 'set' }
  const after = written(world, next, 'assert')
  return [
    step(
      turn,
      'asserts',
      restart({ ...broughtBack(after, pointer, next), store: { ...after.store, bound: true } }),
      act,
    ),
  ]
}

/** A rollback that was undone is the registry's to bring back; but not in the place of one that was made after it. */
function broughtBack(world: World, undone: Pointer | null, next: Pointer): World {
  const { ghost, registry } = world
  const isRollback = registry.flips.some((flip) => flip.flipId === next.flipId && flip.kind === 'rollback')
  if (ghost.stays === null || !isRollback) return world
  const placeOf = (flipId: string | null | undefined) => ghost.made.findIndex((made) => made.id === flipId)
  if (placeOf(undone?.flipId) > placeOf(next.flipId)) return { ...world, broken: 'a rollback stays' }
  return { ...world, ghost: { ...ghost, stays: next.active?.ordinal ?? null } }
}

function asserted(stored: Pointer | null, known: Pointer, registry: Registry, off: Guard | null): Pointer {
  const hasEnded = (canaryId: string) => registry.canary?.canaryId === canaryId && registry.canary.state === 'ended'
  const issued = off === 'aboveIssued' ? {} : { issued: { registry: registry.issued, breakGlass: 0 } }
  const next = assertedPointer(stored, known, { hasEnded, ...issued })
  if (stored === null) return next
  if (off === 'keepsBreakGlass' && isBehind(stored, known, off)) return known
  if (off === 'joinsFlips' && isReallyBehind(stored, known)) return { ...next, flips: known.flips }
  if (off === 'keepsProhibitions') return { ...next, quarantined: stored.quarantined }
  if (off === 'activeNotRetired') return { ...next, retired: [...new Set([...next.retired, ...known.retired])] }
  return next
}

function isBehind(stored: Pointer | null, known: Pointer, off: Guard | null): boolean {
  if (off === 'hasFlip' && stored !== null) return compareEpoch(stored.epoch, known.epoch) < 0
  return isReallyBehind(stored, known)
}

/** What follows a refresh that died: its flip is ruled out, and its outcome read, before anything is cleaned up. */
export const cleaner: Program = (turn) => {
  const { world, me, name, off } = turn
  const { registry } = world
  const { canary } = registry
  const restart = (next: World) => withActor(next, name, { pc: 'start' })
  if (me.pc === 'start') {
    const steps: WorldStep[] = []
    const [open] = openFlips(registry)
    if (open !== undefined) {
      const pc = off === 'fence' || off === 'readOutcome' ? 'settle' : 'fence'
      steps.push(step(turn, 'finds an open flip', withActor(world, name, { pc, epoch: open.epoch })))
    }
    const isAbandoned = canary !== null && canary.state !== 'ended' && !turn.isOwned(canary.to)
    const { pointer } = world.store
    const isStray = canary?.state === 'ended' && pointer?.candidate?.canaryId === canary.canaryId
    if (isStray) steps.push(step(turn, 'finds a canary that ended', withActor(world, name, { pc: 'end' })))
    if (isAbandoned && off !== 'cleansCanary')
      steps.push(step(turn, 'finds a canary left', withActor(world, name, { pc: 'ruleOut', epoch: canary.epoch })))
    return steps
  }
  const rebound = (next: World, outcome: string, pc: string) =>
    outcome === 'STORE_REBOUND' ? restart(next) : withActor(next, name, { ...me, ...CLEARED, pc })
  if (me.pc === 'fence' || me.pc === 'fenceSwap')
    return changing(
      turn,
      { read: 'fence', swap: 'fenceSwap' },
      { kind: 'fence', epoch: me.epoch as Epoch },
      (next, outcome) => rebound(next, outcome, 'settle'),
    )
  if (me.pc === 'settle') {
    const found = world.store.pointer
    const settled = openFlips(registry).reduce((settling, flip) => {
      const isMade = found?.flips.some((made) => made.flipId === flip.flipId) === true
      if (off === 'readOutcome') return settleFlip(settling, flip.flipId, 'refused', null)
      if (isMade) return settleFlip(settling, flip.flipId, 'confirmed', flip.kind === 'rollback' ? found.hold : null)
      const isRuledOut = found !== null && (compareEpoch(found.epoch, flip.epoch) >= 0 || off === 'fence')
      return isRuledOut ? settleFlip(settling, flip.flipId, 'refused', null) : settling
    }, registry)
    return [step(turn, 'settles by reading', restart(inRegistry(world, settled)), { act: 'read', found })]
  }
  if (me.pc === 'ruleOut' || me.pc === 'ruleOutSwap')
    return changing(
      turn,
      { read: 'ruleOut', swap: 'ruleOutSwap' },
      { kind: 'fence', epoch: me.epoch as Epoch },
      (next, outcome) => rebound(next, outcome, 'end'),
    )
  if (me.pc === 'end' || me.pc === 'endSwap')
    return changing(
      turn,
      { read: 'end', swap: 'endSwap' },
      { kind: 'endCanary', canaryId: canary?.canaryId ?? '' },
      (next, outcome) => rebound(next, outcome, 'reject'),
    )
  // Its flip may have been intended meanwhile, and made: that is settled first.
  if (openFlips(registry).some((flip) => flip.to === canary?.to))
    return [step(turn, 'finds the canary flipped', restart(world))]
  return [step(turn, 'records the end of the canary', restart(inRegistry(world, endedCanary(registry))))]
}

/** Retires and deletes what nothing needs, again and again; or only as far as the registry. */
export const retirer =
  (ordinals: readonly number[], { marks = true }: { marks?: boolean } = {}): Program =>
  (turn) => {
    const { world, me, name, off } = turn
    const { store, registry } = world
    const restart = (next: World) => withActor(next, name, { pc: 'start' })
    if (me.pc === 'start') {
      return ordinals
        .filter((to) => store.present.includes(to) && !turn.isOwned(to) && mayRetire(registry, to, off))
        .map((to) =>
          step(
            turn,
            `retires ${to} in the registry`,
            withActor(inRegistry(world, withState(registry, to, 'retired')), name, {
              pc: off === 'markFirst' ? 'leases' : 'read',
              to,
            }),
          ),
        )
    }
    if (!marks) return []
    const to = me.to as number
    if (me.pc === 'read' || me.pc === 'swap')
      return changing(turn, { read: 'read', swap: 'swap' }, { kind: 'retire', tag: tagOf(to) }, (next, outcome) =>
        outcome === 'applied' || outcome === 'already'
          ? withActor(next, name, { pc: off === 'markFirst' ? 'delete' : 'leases', to })
          : restart(next),
      )
    if (me.pc === 'leases') {
      const found = Object.values(store.leases).toSorted()
      const isLeased = found.includes(to) && off !== 'leasesListed'
      const next = isLeased
        ? restart(world)
        : withActor(world, name, { pc: off === 'markFirst' ? 'read' : 'delete', to })
      return [step(turn, isLeased ? `finds ${to} leased` : `finds ${to} free`, next, { act: 'leases', found })]
    }
    if (me.pc === 'delete') {
      const present = store.present.filter((other) => other !== to)
      const next = { ...world, store: { ...store, present, deleted: [...store.deleted, to].toSorted() } }
      return [step(turn, `deletes ${to}`, withActor(next, name, { pc: 'forget', to }), { act: 'delete', of: to })]
    }
    if (me.pc === 'forget' || me.pc === 'forgetSwap')
      return changing(turn, { read: 'forget', swap: 'forgetSwap' }, { kind: 'forget', tag: tagOf(to) }, (next) =>
        withActor(next, name, { pc: 'swept', to }),
      )
    return [step(turn, `records ${to} as swept`, restart(inRegistry(world, withState(registry, to, 'swept'))))]
  }

/** A reader that stays on the version it found active, until it is done. */
export const leaser: Program = (turn) => {
  const { world, me, name, off } = turn
  const { store } = world
  const { pointer } = store
  const order = off === 'leaseFirst' ? ['check', 'lease', 'read'] : ['lease', 'check', 'read']
  const after = (pc: string) => order[order.indexOf(pc) + 1] as string
  if (me.pc === 'start') {
    if (pointer?.active == null) return []
    const next = { pc: order[0] as string, to: pointer.active.ordinal }
    return [step(turn, 'reads the pointer', withActor(world, name, next), { act: 'read', found: pointer })]
  }
  const to = me.to as number
  if (me.pc === 'lease') {
    const next = { ...world, store: { ...store, leases: { ...store.leases, [name]: to } } }
    return [step(turn, 'leases', withActor(next, name, { pc: after('lease'), to }), { act: 'lease', of: to })]
  }
  if (me.pc === 'check') {
    const isRetired = pointer?.retired.includes(tagOf(to)) === true && off !== 'leaseRefusesRetired'
    const isNamed = pointer?.active?.ordinal === to || pointer?.previous?.ordinal === to
    const isGone = isRetired || (!isNamed && !store.present.includes(to))
    const next = { pc: isGone ? 'drop' : after('check'), to }
    return [
      step(turn, isGone ? 'gives up' : 'is protected', withActor(world, name, next), { act: 'read', found: pointer }),
    ]
  }
  if (me.pc === 'read') {
    const isDeleted = store.deleted.includes(to)
    const next = { ...world, broken: isDeleted ? 'a reader with a lease reads no deleted version' : world.broken }
    return [
      step(turn, 'reads blocks', withActor(next, name, { pc: 'drop', to }), {
        act: 'manifest',
        of: to,
        found: !isDeleted,
      }),
    ]
  }
  if (me.pc !== 'drop') return []
  const { [name]: _, ...leases } = store.leases
  return [
    step(turn, 'drops its lease', done({ ...world, store: { ...store, leases } }, name), { act: 'drop', of: name }),
  ]
}

/** A reader that follows the pointer. */
export const follower: Program = (turn) => {
  const { world, me, name, off } = turn
  const { pointer } = world.store
  const seen = me.seen ?? NO_EPOCH
  if (pointer === null || compareEpoch(pointer.epoch, seen) === 0) return []
  const isLower = compareEpoch(pointer.epoch, seen) < 0
  if (isLower && off !== 'lowerEpoch') return []
  const next = withActor(world, name, { pc: 'start', seen: pointer.epoch })
  const broken = isLower ? 'epochs only rise in what a reader follows' : world.broken
  return [step(turn, 'follows', { ...next, broken }, { act: 'read', found: pointer })]
}

/** A share of the readers gets the version; it ends in a flip to it, or without one. */
export const canaryWorker =
  (to: number): Program =>
  (turn) => {
    const { world, me, name, off } = turn
    const { registry, store } = world
    if (me.pc === 'start') return plan(turn, to, 'open')
    if (me.pc === 'open') {
      const isFree = registry.hold === null && registry.states[to] === 'sealed' && !registry.quarantined.includes(to)
      if (!isFree) return [step(turn, 'may begin no canary', done(world, name))]
      const issued = registry.issued + 1
      const epoch = { registry: issued, breakGlass: 0 }
      const canary = { canaryId: name, to, epoch, state: 'open' as const, share: 0.1 }
      const opened = withState({ ...registry, issued, canary }, to, 'candidate')
      return [step(turn, 'intends a canary', withActor(inRegistry(world, opened), name, { ...me, pc: 'read', epoch }))]
    }
    if (me.pc === 'read' || me.pc === 'swap') {
      const change: PointerChange = {
        kind: 'canary',
        canaryId: name,
        expected: me.expected as NonNullable<Actor['expected']>,
        version: version(to),
        share: 0.1,
        salt: 's',
        since: SINCE,
        epoch: me.epoch as Epoch,
      }
      return changing(turn, { read: 'read', swap: 'swap' }, change, (next, outcome) =>
        withActor(next, name, { pc: outcome === 'applied' || outcome === 'already' ? 'begun' : 'reject' }),
      )
    }
    if (me.pc === 'begun') {
      const running = registry.canary?.canaryId === name && registry.canary.state === 'open'
      const canary = registry.canary && running ? { ...registry.canary, state: 'running' as const } : registry.canary
      return [
        step(turn, 'records the canary', withActor(inRegistry(world, { ...registry, canary }), name, { pc: 'watch' })),
      ]
    }
    if (me.pc === 'watch') {
      const { pointer } = store
      const failed = step(turn, 'finds the candidate worse', withActor(world, name, { pc: 'end' }))
      if (pointer === null || pointer.candidate?.canaryId !== name) return [failed]
      const next = withActor(world, name, { pc: 'intend', expected: expectedOf(pointer), to })
      return [failed, step(turn, 'finds the candidate good', next, { act: 'read', found: pointer })]
    }
    if (me.pc === 'end' || me.pc === 'endSwap')
      return changing(turn, { read: 'end', swap: 'endSwap' }, { kind: 'endCanary', canaryId: name }, (next, outcome) =>
        outcome === 'STORE_REBOUND' ? withActor(next, name, { pc: 'end' }) : withActor(next, name, { pc: 'reject' }),
      )
    if (me.pc === 'reject')
      return [step(turn, 'rejects the candidate', done(inRegistry(world, endedCanary(registry)), name))]
    const intent = { flipId: `${name}-flip`, kind: 'flip' as const, from: fromOf(me), to }
    return makeFlip({ ...turn, off }, intent, (flip) => flip, 'end')
  }

/** An operator's pin, which expires by and by. */
export const pinner =
  (to: number): Program =>
  (turn) => {
    const { world, me, name, off } = turn
    const { pointer } = world.store
    const change: PointerChange = { kind: 'pin', pin: { version: version(to), until: SINCE, by: name, reason: 'r' } }
    if (me.pc === 'start') {
      const outcome = decide(pointer, change, off)
      const told = outcome.outcome === 'refused' ? outcome.code : outcome.outcome
      const act: StoreAct = { act: 'decide', found: pointer, change, outcome: told, pending: pendingOf(outcome) }
      if (outcome.outcome !== 'applied') return [step(turn, `decides pin: ${told}`, done(world, name), act)]
      const pc = off === 'tokenFirst' ? 'swap' : 'manifest'
      const next = { pc, pending: outcome.pointer, stale: false, to }
      return [step(turn, 'decides pin: applied', withActor(world, name, next), act)]
    }
    if (me.pc === 'manifest') return lookedFor(turn, to, { ...me, pc: 'swap' })
    if (me.pc === 'swap') return swapping(turn, 'start', change, (next) => withActor(next, name, { pc: 'pinned' }))
    if (me.pc === 'pinned')
      return off === 'unpins' ? [] : [step(turn, 'finds its pin expired', withActor(world, name, { pc: 'unpin' }))]
    if (me.pc !== 'unpin' && me.pc !== 'unpinSwap') return []
    return changing(
      turn,
      { read: 'unpin', swap: 'unpinSwap' },
      { kind: 'unpin', tag: tagOf(to), until: SINCE },
      (next) => done(next, name),
    )
  }

/** A person rules a version out, in the registry and then in the pointer. */
export const quarantiner =
  (to: number): Program =>
  (turn) => {
    const { world, me, name } = turn
    const { registry } = world
    if (me.pc === 'start') {
      const state = registry.states[to]
      const isOpen = openFlips(registry).some((flip) => flip.to === to)
      if (isOpen || state === 'active' || state === 'retired' || state === 'swept') return []
      const quarantined = [...new Set([...registry.quarantined, to])].toSorted()
      const next = withState({ ...registry, quarantined }, to, 'quarantined')
      return [step(turn, 'quarantines in the registry', withActor(inRegistry(world, next), name, { pc: 'read' }))]
    }
    if (me.pc !== 'read' && me.pc !== 'swap') return []
    return changing(turn, { read: 'read', swap: 'swap' }, { kind: 'quarantine', tag: tagOf(to) }, (next, outcome) =>
      outcome === 'STORE_REBOUND'
        ? withActor(next, name, { pc: 'read' })
        : done(outcome === 'CONFLICT' ? next : { ...next, ghost: { ...next.ghost, ruledOut: [to] } }, name),
    )
  }

/** A person lifts the hold, once the registry has all that the pointer has. */
export const resumer: Program = (turn) => {
  const { world, me, name } = turn
  const { registry, store } = world
  if (me.pc === 'start') {
    const isHeld = registry.hold !== null || store.pointer?.hold != null
    if (!isHeld || openFlips(registry).length > 0 || (store.pointer?.breakGlass.length ?? 0) > 0) return []
    const holds = [store.pointer?.hold ?? null, registry.hold].filter((held) => held !== null)
    const next = withActor(inRegistry(world, { ...registry, hold: null }), name, { pc: 'read', holds })
    return [step(turn, 'resumes in the registry', next)]
  }
  if (me.pc !== 'read' && me.pc !== 'swap') return []
  return changing(turn, { read: 'read', swap: 'swap' }, { kind: 'resume', holds: me.holds ?? [] }, (next, outcome) =>
    outcome === 'STORE_REBOUND'
      ? withActor(next, name, { ...me, pc: 'read' })
      : done({ ...next, ghost: { ...next.ghost, stays: null } }, name),
  )
}

/** Reads what the flip will expect. A store that lost something is repaired first, and a registry that did goes on from the store. */
function plan(turn: Turn, to: number, pc: string): WorldStep[] {
  const { world, name, me, off } = turn
  const { store, registry } = world
  const known = knownPointer(registry)
  if (store.pointer === null || !store.bound || (known !== null && isBehind(store.pointer, known, off))) return []
  const act: StoreAct = { act: 'read', found: store.pointer }
  if (registry.hold !== null) return [step(turn, 'is skipped on hold', done(world, name), act)]
  const issued = store.pointer.epoch.registry
  const raised = issued > registry.issued ? inRegistry(world, { ...registry, issued }) : world
  const next = withActor(raised, name, {
    ...me,
    pc,
    expected: expectedOf(store.pointer),
    to,
  })
  return [step(turn, 'plans', next, act)]
}

/** Intent, compare-and-set, outcome: as activities/flip.ts. */
function makeFlip(
  turn: Turn,
  intent: Parameters<typeof intendFlip>[1],
  as: (flip: Extract<PointerChange, { kind: 'flip' }>) => PointerChange,
  refusedTo = 'done',
): WorldStep[] {
  const { world, me, name, off } = turn
  const { registry } = world
  if (me.pc === 'intend') {
    const intended = intendFlip(registry, intent, off)
    if (intended === null || intended.outcome !== null)
      return [step(turn, `may not ${intent.kind}`, withActor(world, name, { pc: refusedTo }))]
    const next = withActor(inRegistry(world, intended.registry), name, { ...me, pc: 'flip', epoch: intended.epoch })
    return [step(turn, `intends a ${intent.kind}`, next)]
  }
  if (me.pc === 'flip' || me.pc === 'flipSwap') {
    const change = as({
      kind: 'flip',
      flipId: intent.flipId,
      expected: me.expected as NonNullable<Actor['expected']>,
      to: version(intent.to),
      epoch: me.epoch as Epoch,
      freshAsOf: null,
    })
    return changing(turn, { read: 'flip', swap: 'flipSwap' }, change, (next, outcome) =>
      withActor(next, name, {
        pc: outcome === 'applied' || outcome === 'already' ? 'confirm' : 'refuse',
        to: intent.to,
      }),
    )
  }
  if (me.pc === 'confirm' || me.pc === 'refuse') {
    const outcome = me.pc === 'confirm' ? 'confirmed' : 'refused'
    const hold = intent.kind === 'rollback' ? asHold(name) : null
    const settled = settleFlip(registry, intent.flipId, outcome, hold)
    const ended = settled.canary?.to === intent.to && outcome === 'confirmed' ? endedCanary(settled, 'active') : settled
    const next = withActor(inRegistry(world, ended), name, { pc: outcome === 'refused' ? refusedTo : 'done' })
    return [step(turn, `records the ${intent.kind} as ${outcome}`, next)]
  }
  return []
}

/** As src/stores/change-pointer.ts: read, decide, compare-and-set; lost the race or the reply, read and decide anew. */
function changing(
  turn: Turn,
  at: { read: string; swap: string },
  change: PointerChange,
  done: (world: World, outcome: string) => World,
): WorldStep[] {
  const { world, me, name, off } = turn
  const found = world.store.pointer
  if (me.pc === at.read) {
    const outcome = decide(found, change, off)
    const told = outcome.outcome === 'refused' ? outcome.code : outcome.outcome
    const act: StoreAct = { act: 'decide', found, change, outcome: told, pending: pendingOf(outcome) }
    const label = `decides ${change.kind}: ${told}`
    if (outcome.outcome !== 'applied')
      return [step(turn, label, done(withActor(world, name, { ...me, ...CLEARED }), told), act)]
    const next = { ...me, pc: at.swap, pending: outcome.pointer, stale: false }
    return [step(turn, label, withActor(world, name, next), act)]
  }
  return me.pc === at.swap ? swapping(turn, at.read, change, done) : []
}

function swapping(
  turn: Turn,
  read: string,
  change: PointerChange,
  done: (world: World, outcome: string) => World,
  rebinds = false,
): WorldStep[] {
  const { world, me, name, off } = turn
  const { store } = world
  const next = me.pending as Pointer
  const cleared = { ...me, ...CLEARED }
  const isUnbound = !store.bound && store.pointer !== null
  if (isUnbound && !rebinds && off !== 'bound') {
    const back =
      change.kind === 'breakGlass'
        ? withActor(world, name, { ...cleared, pc: read })
        : done(withActor(world, name, cleared), 'STORE_REBOUND')
    return [step(turn, `swaps ${change.kind}: rebound`, back, { act: 'swap', next, outcome: 'rebound' })]
  }
  const act = rebinds ? ('rebind' as const) : ('swap' as const)
  if (me.stale === true && off !== 'compareAndSet')
    return [
      step(turn, `swaps ${change.kind}: moved`, withActor(world, name, { ...cleared, pc: read }), {
        act,
        next,
        outcome: 'moved',
      }),
    ]
  const set = withActor(written(world, next, change), name, cleared)
  const bound = { ...set, store: { ...set.store, bound: set.store.bound || rebinds } }
  const steps = [step(turn, `swaps ${change.kind}: set`, done(bound, 'applied'), { act, next, outcome: 'set' })]
  if (world.faults.lostReplies > 0) {
    const faults = { ...world.faults, lostReplies: world.faults.lostReplies - 1 }
    const unsure = { ...bound, faults, actors: { ...bound.actors, [name]: { ...cleared, pc: read } } }
    steps.push(step(turn, `swaps ${change.kind}: reply lost`, unsure, { act, next, outcome: 'set' }))
  }
  return steps
}

function lookedFor(turn: Turn, of: number, next: Actor): WorldStep[] {
  const { world, name } = turn
  const found = world.store.present.includes(of)
  const to = found ? withActor(world, name, next) : done(world, name)
  return [
    step(turn, found ? `finds the manifest of ${of}` : `finds no manifest of ${of}`, to, {
      act: 'manifest',
      of,
      found,
    }),
  ]
}

const CLEARED = { pending: undefined, stale: undefined }

function pendingOf(outcome: ReturnType<typeof decide>): Pointer | undefined {
  return outcome.outcome === 'applied' ? outcome.pointer : undefined
}

function step({ name }: Turn, does: string, to: World, store?: StoreAct): WorldStep {
  return { actor: name, label: `${name} ${does}`, to, ...(store === undefined ? {} : { store }) }
}

function done(world: World, name: string): World {
  return withActor(world, name, { pc: 'done' })
}

function expectedOf(pointer: Pointer): NonNullable<Actor['expected']> {
  return { tag: pointer.active?.tag ?? null, epoch: pointer.epoch }
}

function fromOf({ expected }: Actor): number | null {
  return expected?.tag == null ? null : ordinalOf(expected.tag)
}

/** One transaction of the registry. */
function inRegistry(world: World, registry: Registry): World {
  if (world.faults.restores === 0) return { ...world, registry }
  const { before: _, ...before } = world.registry
  return { ...world, registry: { ...registry, before } }
}

function withState(registry: Registry, ordinal: number, state: Registry['states'][number]): Registry {
  return { ...registry, states: { ...registry.states, [ordinal]: state } }
}

function endedCanary(registry: Registry, state: 'rejected' | 'active' = 'rejected'): Registry {
  const { canary } = registry
  if (canary === null) return registry
  const ended = { ...registry, canary: { ...canary, state: 'ended' as const } }
  return registry.states[canary.to] === 'candidate' && state === 'rejected' ? withState(ended, canary.to, state) : ended
}
