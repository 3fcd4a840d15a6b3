import { randomUUID } from 'node:crypto'
import type { Epoch, Hold, Pointer, VersionRef } from '../schemas/pointer.ts'
import { assertedPointer, isBehind, isUnsettled } from '../src/core/asserted-pointer.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { applyChange, formatEpoch, tooNewToChange } from '../src/core/pointer.ts'
import { appliedStore } from '../src/registry/applied-store.ts'
import { canaryOf } from '../src/registry/canaries.ts'
import { currentDefinition } from '../src/registry/current-definition.ts'
import { openDrillOf } from '../src/registry/drills.ts'
import { flipOf } from '../src/registry/flips.ts'
import { intendFlip } from '../src/registry/intend-flip.ts'
import { knownPointer, refOf } from '../src/registry/known-pointer.ts'
import { liftedOf } from '../src/registry/lifted.ts'
import { loseVersions } from '../src/registry/lose-versions.ts'
import { raiseEpoch } from '../src/registry/raise-epoch.ts'
import { settleFlip } from '../src/registry/settle-flip.ts'
import type { VersionRow } from '../src/registry/version.ts'
import { versions } from '../src/registry/versions.ts'
import type { PointerRead, Store } from '../src/stores/ports.ts'
import { adoptFromStore } from './adopt.ts'
import { buildBack } from './build-back.ts'
import { contradictedBy } from './contradicted.ts'
import { damageOf, type Looking } from './damage.ts'
import type { Deps } from './deps.ts'
import { requireEarlier } from './require-earlier.ts'
import { settleOpenFlips } from './settle-flips.ts'

/** Another reconciler, or what it let through, came first: each time the store is looked at anew. */
const ATTEMPTS = 4

/** What a repair needs of the world: `Deps`, or what the command line opened. */
export type ReconcileDeps = Pick<Deps, 'pool' | 'log' | 'alert' | 'furtherStores'>

export interface Reconciling extends Looking {
  /** The flip or canary that found the store restarted, and is made after the repair. */
  madeAfter?: string
  /**
   * Nobody asked for it: only the version that was confirmed last is asserted again, or copied back. Where that cannot be, it is told and nothing is
   * written, since a wrong or older server behind the right address looks just so; a refresh or rollback goes on from there.
   */
  isUnasked?: true
  /** How a rollback is recorded, should one be needed: a person's, or the refresh's own. */
  rollback: {
    flipId: string
    actor: string | null
    reason: string | null
    hold: Hold | null
    to: string | null
    /** Whoever asked starts the watch over its target, where one is declared; else a worker does, or the next refresh. */
    isWatched?: true
  }
}

export type Repairing = Omit<Reconciling, 'rollback'>

/** What the store's pointer names now: the version it should, another that is whole, or nothing that can be built upon; left, it is as it was found. */
export type Reconciled =
  | { outcome: 'asserted'; summary: string }
  | { outcome: 'restored'; summary: string }
  | { outcome: 'moved'; from: string; to: VersionRef; epoch: Pointer['epoch']; summary: string }
  | { outcome: 'lost'; summary: string }
  | { outcome: 'left'; summary: string }

/** What was found wrong, with what the pointer should be. */
interface Fault {
  kind: 'rebound' | 'missing' | 'behind'
  read: PointerRead | null
  isBound: boolean
  claimed: Pointer
}

/**
 * Brings a store's pointer back to what the registry last confirmed, when the store restarted, failed over, came back empty or came back
 * older. Only a version whose every block is there is asserted again; else it is copied back from a further store; else the newest whole one, by a recorded rollback; else the next build
 * starts from the source alone, above every epoch that was issued. Before that, a registry that is older than the store learns what that has.
 * Null: nothing was wrong with the store.
 */
export async function reconcile(deps: ReconcileDeps, store: Store, asked: Reconciling): Promise<Reconciled | null> {
  const { dataset } = asked
  await adoptFromStore(deps, store, dataset)
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const fault = await faultOf(deps, store, asked)
    if (fault === null) return null
    const done = await mend(deps, store, asked, fault)
    if (done !== null) return done
  }
  throw cameFirst(dataset, store)
}

/** `reconcile` for the work of a refresh: a rollback that this takes is nobody's in particular. */
export async function repair(deps: ReconcileDeps, store: Store, asked: Repairing): Promise<Reconciled | null> {
  const rollback = { flipId: randomUUID(), actor: null, reason: null, hold: null, to: null }
  return reconcile(deps, store, { ...asked, rollback })
}

async function faultOf(deps: ReconcileDeps, store: Store, asked: Reconciling): Promise<Fault | null> {
  const { known, read } = await readSettled(deps, store, asked.dataset)
  const isBound = await store.pointer.isBound()
  const stored = read?.pointer ?? null
  const last = known ?? stored
  const kind = stored === null ? 'missing' : known !== null && isBehind(stored, known) ? 'behind' : 'rebound'
  if (last === null || (kind === 'rebound' && isBound)) return null
  const issued = await issuedToOthers(deps, asked)
  const candidate = stored?.candidate ?? null
  const hasEnded = candidate !== null && (await canaryOf(deps.pool, candidate.canaryId))?.outcome != null
  const lifted = stored === null ? { hold: false, pin: false } : await liftedOf(deps.pool, asked.dataset, stored)
  return { kind, read, isBound, claimed: assertedPointer(stored, last, { issued, hasEnded: () => hasEnded, lifted }) }
}

/**
 * The registry is read first: a flip that is confirmed there was in the store before, so a pointer read later without it has lost it. A flip
 * that the store has and the registry does not know the outcome of is recorded before a repair may undo it. One that stays unknown after
 * that is of no interest: nobody will record it.
 */
async function readSettled(
  deps: ReconcileDeps,
  store: Store,
  dataset: string,
): Promise<{ known: Pointer | null; read: PointerRead | null }> {
  for (let attempt = 1; ; attempt++) {
    const known = await knownPointer(deps.pool, dataset)
    const read = await store.pointer.read()
    const isSettled = known === null || !isUnsettled(read?.pointer ?? null, known)
    if (isSettled || attempt === ATTEMPTS) return { known, read }
    await settleOpenFlips(deps, store, dataset)
  }
}

/** The highest epoch that was issued, save to what this repair is part of: that is to be made after it. */
async function issuedToOthers(deps: ReconcileDeps, { dataset, madeAfter, rollback }: Reconciling): Promise<Epoch> {
  const own: number[] = []
  for (const id of [madeAfter, rollback.flipId]) {
    const made = id === undefined ? null : ((await flipOf(deps.pool, id)) ?? (await canaryOf(deps.pool, id)))
    if (made?.outcome === null) own.push(made.epoch)
  }
  let { epochRegistry: registry } = await appliedStore(deps.pool, dataset)
  while (own.includes(registry)) registry--
  return { registry, breakGlass: 0 }
}

/** Null: another came first. */
async function mend(deps: ReconcileDeps, store: Store, asked: Reconciling, fault: Fault): Promise<Reconciled | null> {
  const { dataset } = asked
  const { active } = fault.claimed
  const damage = active === null ? null : await damageOf(store, asked, active)
  if (active === null || damage === null) {
    const now =
      active === null ? 'no version' : `${active.tag} (epoch ${formatEpoch(fault.claimed.epoch)}), all of it is there`
    const summary = `${foundOf(fault, store)}; the pointer of ${dataset} is set to ${now}`
    await told(deps, asked, fault, 'asserted', active?.tag ?? null, summary)
    return (await assert(store, fault, fault.claimed)) ? { outcome: 'asserted', summary } : null
  }

  const restored = await restore(deps, store, asked, fault, damage)
  if (restored !== null) {
    const { claimed, summary } = restored
    await told(deps, asked, fault, 'restored', active.tag, summary)
    return (await assert(store, fault, claimed)) ? { outcome: 'restored', summary } : null
  }

  if (asked.isUnasked) {
    const summary = `${foundOf(fault, store)}; ${active.tag} is not whole there (${damage}), and no further store has it; nothing was changed. If it is the right server, a refresh of ${dataset} repairs it`
    await told(deps, asked, fault, 'left', fault.read?.pointer.active?.tag ?? null, summary)
    return { outcome: 'left', summary }
  }

  const rows = await versions(deps.pool, dataset, { states: ['retained'] })
  const lost: Array<{ tag: string; why: string }> = []
  const named = rows.find((row) => row.tag === asked.rollback.to)
  // One in any other state is refused for that.
  if (named !== undefined) requireEarlier(dataset, active, named, await openDrillOf(deps.pool, dataset))
  const known = await versions(deps.pool, dataset, { tags: [active.tag] })
  if (known.length > 0) {
    for (const row of candidates(rows, fault.claimed, asked.rollback.to)) {
      const to = refOf(row)
      if (to === null) continue
      const why = await damageOf(store, asked, to)
      if (why !== null) {
        lost.push({ tag: row.tag, why })
        continue
      }
      await loseVersions(deps.pool, { dataset, lost })
      return await moveTo(deps, store, asked, fault, { from: active, damage, to, row, lost })
    }
    lost.push({ tag: active.tag, why: damage })
  }
  return await startAnew(deps, store, asked, fault, { active, damage, lost })
}

/**
 * Copies back what readers are on and what a rollback goes to, from a further store that has them. Null: none has the version that readers are on, and
 * another one, or the source, must do.
 */
async function restore(
  deps: ReconcileDeps,
  store: Store,
  asked: Reconciling,
  fault: Fault,
  damage: string,
): Promise<{ claimed: Pointer; summary: string } | null> {
  const { dataset, rollback } = asked
  const { claimed } = fault
  const { active, previous } = claimed
  const back = active === null ? null : await buildBack(deps, store, asked, active, [])
  if (active === null || back === null) return null
  const target = previous === null ? null : await buildBack(deps, store, asked, previous, [back.ref])
  const row = rollback.to === null ? undefined : (await versions(deps.pool, dataset, { tags: [rollback.to] }))[0]
  const ref = refOf(row)
  if (ref !== null && ref.tag !== active.tag && ref.tag !== previous?.tag)
    await buildBack(deps, store, asked, ref, [back.ref])
  const summary = `${foundOf(fault, store)}; ${active.tag} was not whole there (${damage}) and is copied back from ${back.from}`
  return { claimed: { ...claimed, active: back.ref, previous: target?.ref ?? null }, summary }
}

/** Retained versions, the one asked for first, then as a rollback would take them: what came before, newest first. */
function candidates(rows: readonly VersionRow[], claimed: Pointer, to: string | null): VersionRow[] {
  const ordinal = claimed.active?.ordinal ?? 0
  const rank = (row: VersionRow) => (row.tag === to ? 0 : row.ordinal < ordinal ? 1 : 2)
  return rows
    .filter((row) => row.tag !== claimed.active?.tag)
    .filter((row) => !claimed.quarantined.includes(row.tag) && !claimed.retired.includes(row.tag))
    .sort((a, b) => rank(a) - rank(b) || b.ordinal - a.ordinal)
}

/** A rollback whose pointer is set in one step with the repair: at no moment does it name the version that is not whole. Null: another came first. */
async function moveTo(
  deps: ReconcileDeps,
  store: Store,
  asked: Reconciling,
  fault: Fault,
  {
    from,
    damage,
    to,
    row,
    lost,
  }: { from: VersionRef; damage: string; to: VersionRef; row: VersionRow; lost: ReadonlyArray<{ tag: string }> },
): Promise<Reconciled | null> {
  const { dataset, rollback } = asked
  const { flipId, actor, hold } = rollback
  const summary = `${foundOf(fault, store)}; ${from.tag} is not whole there (${damage}); ${dataset} is taken to ${to.tag}, the newest that is, and ${from.tag} is quarantined`
  await told(deps, asked, fault, 'moved', to.tag, summary)
  await raiseEpoch(deps.pool, dataset, fault.claimed.epoch.registry)
  const reason = rollback.reason ?? summary
  const bake = (await currentDefinition(deps.pool, dataset))?.definition.bake
  const intent = {
    ...({ flipId, dataset, kind: 'rollback', from: from.tag, to: to.tag, reason, actor } as const),
    ...(bake && { bakeMs: bake.forMs }),
  }
  const contradicted = await contradictedBy(deps, store, fault.claimed)
  const { epoch, anchor } = await intendFlip(deps.pool, intent)
  const decision = applyChange(
    fault.claimed,
    {
      kind: 'flip',
      flipId,
      expected: { tag: from.tag, epoch: fault.claimed.epoch },
      to,
      epoch,
      anchor,
      ...contradicted,
      freshAsOf: row.watermark === null ? null : { snapshot: row.watermark.snapshot, at: row.watermark.at },
      also: { quarantine: [from.tag, ...lost.map(({ tag }) => tag)], ...(hold === null ? {} : { hold }) },
      allowHold: true,
    },
    dataset,
  )
  if (decision.outcome === 'refused') {
    const { code, message, details } = decision
    await settleFlip(deps.pool, { flipId, outcome: 'refused', detail: { code, message } })
    throw new SnapflipError(code, message, details)
  }
  // What came first may be this very rollback, made by another attempt: that is read, not guessed.
  if (!(await assert(store, fault, decision.pointer))) return null
  const detail = { store: store.url, reconciled: fault.kind, ...(rollback.isWatched ? {} : { isUnwatched: true }) }
  await settleFlip(deps.pool, { flipId, outcome: 'confirmed', detail, ...(hold === null ? {} : { hold }) })
  return { outcome: 'moved', from: from.tag, to, epoch, summary }
}

/**
 * Nothing is whole. What is left of the active version stays readable, but nothing is built upon it (`withParent`). Where not even its manifest
 * is left, the pointer names nothing, at an epoch above all that were issued, so that no flip from before can come true.
 */
async function startAnew(
  deps: ReconcileDeps,
  store: Store,
  asked: Reconciling,
  fault: Fault,
  { active, damage, lost }: { active: VersionRef; damage: string; lost: ReadonlyArray<{ tag: string; why: string }> },
): Promise<Reconciled | null> {
  const { dataset } = asked
  const tags = lost.map(({ tag }) => tag)
  const isLeft = (await store.data.listManifests()).includes(active.tag)
  const summary = `${foundOf(fault, store)}; ${active.tag} is not whole there (${damage}), nor is any other version of ${dataset}; the next refresh builds from the source`
  await told(deps, asked, fault, 'lost', isLeft ? active.tag : null, summary)
  await loseVersions(deps.pool, { dataset, lost })
  const { claimed } = fault
  const next: Pointer = {
    ...claimed,
    previous: null,
    candidate: null,
    pin: null,
    bake: null,
    quarantined: [...new Set([...claimed.quarantined, ...tags, active.tag])],
  }
  if (!isLeft) {
    const issued = await raiseEpoch(deps.pool, dataset, claimed.epoch.registry)
    const epoch = { registry: await raiseEpoch(deps.pool, dataset, issued + 1), breakGlass: 0 }
    Object.assign(next, { active: null, flipId: null, freshAsOf: null, epoch } satisfies Partial<Pointer>)
  }
  return (await assert(store, fault, next)) ? { outcome: 'lost', summary } : null
}

/** False: another came first. */
async function assert(store: Store, { read, isBound }: Fault, next: Pointer): Promise<boolean> {
  const refusal = read === null ? null : tooNewToChange(read.pointer)
  if (refusal !== null) throw new SnapflipError(refusal.code, refusal.message, refusal.details)
  if (read !== null && !isBound) return store.pointer.rebind(read.token, next)
  return store.pointer.swap(read?.token ?? null, next)
}

/** Before the store is touched: a repair that crashes half-way is in the history too. */
async function told(
  deps: ReconcileDeps,
  { dataset, rollback }: Reconciling,
  { kind, read, claimed }: Fault,
  outcome: Reconciled['outcome'],
  active: string | null,
  summary: string,
): Promise<void> {
  const stored = read?.pointer
  const isRecorded = await deps.alert({
    kind: 'STORE_REBOUND',
    dataset,
    version: active,
    // All that find this pointer, at this epoch, find the same; each write of it draws a new token.
    incident: `${kind}, ${outcome}, epoch ${formatEpoch(claimed.epoch)}, ${read?.token ?? 'no pointer'}`,
    summary,
    evidence: {
      found: kind,
      outcome,
      confirmed: { tag: claimed.active?.tag ?? null, epoch: claimed.epoch },
      stored: stored === undefined ? null : { tag: stored.active?.tag ?? null, epoch: stored.epoch },
    },
    actor: rollback.actor,
  })
  if (!isRecorded) {
    throw new SnapflipError(
      'POSTGRES_UNREACHABLE',
      `Expected the registry to take down that ${dataset} is repaired, found that it could not: the log's line of the alert says why. The repair is tried again.`,
      { dataset },
    )
  }
  deps.log.warn({ dataset, step: 'reconcile', found: kind, outcome, version: active }, summary)
}

function foundOf({ kind, read }: Fault, store: Store): string {
  const stored = read?.pointer
  const at = `${stored?.active?.tag ?? 'no version'} (epoch ${stored === undefined ? 'none' : formatEpoch(stored.epoch)})`
  return {
    rebound: `${store.url} restarted or failed over`,
    missing: `${store.url} came back without a pointer`,
    behind: `the pointer in ${store.url} came back older, at ${at}`,
  }[kind]
}

function cameFirst(dataset: string, store: Store): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `Pointer of ${dataset} in ${store.url} was changed by others while it was being repaired, expected it to stay. See \`snapflip status ${dataset}\`, then try again.`,
    { dataset, store: store.url },
  )
}
