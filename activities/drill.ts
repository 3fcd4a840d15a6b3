import type { FreshAsOf, Pointer, VersionRef } from '../schemas/pointer.ts'
import { drillRequestSchema, WORKFLOW_ID } from '../schemas/refresh.ts'
import { isSnapflipError, type SnapflipError } from '../src/core/errors.ts'
import type { ExpectedState } from '../src/core/pointer-change.ts'
import { keptElsewhere } from '../src/core/readers-on.ts'
import { requireStore } from '../src/registry/apply-store.ts'
import { bakeOf } from '../src/registry/bakes.ts'
import {
  type DrillResult,
  openDrillOf,
  beginDrill as recordBegin,
  endDrill as recordEnd,
  requireNoDrill,
} from '../src/registry/drills.ts'
import { cutShort, flipOf } from '../src/registry/flips.ts'
import { refOf } from '../src/registry/known-pointer.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { absorbBreakGlass } from './absorb.ts'
import { damageOf } from './damage.ts'
import { type Deps, datasetOf } from './deps.ts'
import { asActivity, notBeside } from './failure.ts'
import { makeFlip } from './flip.ts'
import { followAll } from './follow.ts'
import { notAsExpected } from './not-as-expected.ts'
import { parseRequest } from './parse-request.ts'
import { repair } from './reconcile.ts'
import { requesterOf } from './requester.ts'
import { settleOpenFlips } from './settle-flips.ts'
import { throughRestarts } from './through-restarts.ts'

/** All that the way there and back needs: a later step looks nothing up again. */
export interface DrillBegun {
  dataset: string
  /** Also the id of the flip away. */
  drillId: string
  from: VersionRef
  /** The same as `from` in a drill that only raises the epoch. */
  to: VersionRef
  expected: ExpectedState
  /** The pointer's last flip before: readers report under it. */
  formerFlipId: string | null
  /** As it was before, for the way back. */
  freshAsOf: FreshAsOf | null
  /** So too, where its bake was cut short. */
  bakeUntil?: string
  searchable: boolean
}

/** One way of a drill. */
export interface DrillMove {
  /** From the call to the pointer. */
  toPointerMs: number
  /** When it was there, by the worker's clock. */
  at: string
}

/** Opens the drill: nothing else may be on its way, and what readers are taken to is read whole before they are. */
export const beginDrill =
  (deps: Deps) =>
  (asked: { drillId: string; request: unknown; workflowId: string; runId: string }): Promise<DrillBegun> =>
    asActivity(async (tell, signal) => {
      const request = parseRequest(drillRequestSchema, asked.request, 'a drill')
      const { dataset, reason, noOp, end } = request
      datasetOf(deps.config, dataset)
      const { actor: by } = await requesterOf(deps, { ...asked, action: 'drill', request })
      const store = await deps.store(dataset)
      await requireStore(deps.pool, { dataset, url: store.url })
      await settleOpenFlips(deps, store, dataset)
      await repair(deps, store, { dataset, tell, signal })
      await absorbBreakGlass(deps, store, dataset)
      const pointer = (await store.pointer.read())?.pointer ?? null
      const open = await openDrillOf(deps.pool, dataset)
      const { searchable } = deps
      if (end || open?.drillId === asked.drillId) {
        if (open === null) throw refuse(dataset, 'an open drill to end', 'none')
        const [from, to] = [await refOfTag(deps, dataset, open.from), await refOfTag(deps, dataset, open.to)]
        const expected = { tag: pointer?.active?.tag ?? null, epoch: pointer?.epoch ?? { registry: 0, breakGlass: 0 } }
        // Who ends it for another knows no more how fresh the version was than its own watermark says.
        const freshAsOf = await watermarkOf(deps, dataset, open.from)
        const { drillId } = open
        // The pointer may be away, and then says nothing of the bake.
        const bakeUntil = (await cutShort(deps.pool, dataset)).get(open.from)?.toISOString()
        return {
          ...{ dataset, drillId, from, to, expected, formerFlipId: null, freshAsOf, searchable },
          ...(bakeUntil && { bakeUntil }),
        }
      }
      await notBeside(() => requireNoDrill(deps.pool, dataset))
      const bakeUntil = await leftBake(deps, dataset, pointer)
      const { from, to } = pairOf(dataset, pointer, noOp)
      const damage = await damageOf(store, { dataset, tell, signal }, to)
      if (damage !== null) throw refuse(dataset, `all of ${to.tag} in ${store.url}`, damage)
      const { drillId } = asked
      await notBeside(() =>
        recordBegin(deps.pool, { drillId, dataset, from: from.tag, to: to.tag, by, reason: reason ?? 'a drill' }),
      )
      const { epoch, freshAsOf, flipId: formerFlipId } = pointer as Pointer
      const expected = { tag: from.tag, epoch }
      return {
        dataset,
        drillId,
        from,
        to,
        expected,
        formerFlipId,
        freshAsOf,
        ...(bakeUntil && { bakeUntil }),
        searchable,
      }
    })

/**
 * Readers are not taken from what is being watched. How that ended is the registry's to say: the pointer goes on naming a bake that was cut short, which
 * keeps rollbacks from its version. Returns until when, for the way back to say so again.
 */
async function leftBake(deps: Deps, dataset: string, pointer: Pointer | null): Promise<string | null> {
  if (pointer?.bake == null) return null
  const { flipId, until } = pointer.bake
  const bake = await bakeOf(deps.pool, flipId)
  if (bake?.outcome !== null) return bake?.outcome === 'baked' ? null : until
  const watch = WORKFLOW_ID.bake(dataset, flipId)
  const ends = `where that does not run any more, start workflow bake anew under this id, see runbooks/compensation-failed.md, or let the next flip end it`
  throw refuse(dataset, 'no bake', `one until ${until} (workflow ${watch}; ${ends})`)
}

/** Readers are neither taken to what nobody may go back to, nor from what is being compared. */
function pairOf(dataset: string, pointer: Pointer | null, noOp: boolean): { from: VersionRef; to: VersionRef } {
  const { active, previous, hold, candidate } = pointer ?? {}
  if (active == null) throw refuse(dataset, 'an active version', 'none')
  if (hold != null) throw refuse(dataset, 'no hold', `one by ${hold.by}: ${hold.reason}`)
  if (candidate != null) throw refuse(dataset, 'no canary', `one of ${candidate.version.tag}`)
  if (noOp) return { from: active, to: active }
  if (previous == null) throw refuse(dataset, 'a version to go back to', 'none; --no-op only raises the epoch')
  return { from: active, to: previous }
}

function refuse(dataset: string, expected: string, found: string): SnapflipError {
  const todo = `Nothing was moved; see \`snapflip status ${dataset}\`.`
  return notAsExpected(`${expected} for a drill of ${dataset}`, found, todo, { dataset })
}

async function refOfTag(deps: Deps, dataset: string, tag: string): Promise<VersionRef> {
  const ref = refOf(await versionRow(deps.pool, dataset, tag))
  if (ref === null) throw refuse(dataset, `${tag} as it was sealed`, 'nothing of it')
  return ref
}

/** Takes readers to the version that a rollback would go to: no hold, no quarantine. Again: finds it made. */
export const drillAway =
  (deps: Deps) =>
  ({ dataset, drillId, from, to, expected, freshAsOf, bakeUntil }: DrillBegun): Promise<DrillMove> =>
    asActivity(async (tell, signal) => {
      const same = from.tag === to.tag
      const fresh = same ? freshAsOf : await watermarkOf(deps, dataset, to.tag)
      const away = { dataset, flipId: drillId, from: from.tag, to, expected, freshAsOf: fresh, allowHold: false }
      const moved = await move(deps, { ...away, ...(same && bakeUntil && { bakeUntil }) })
      await followAll(deps, { dataset, tell, signal })
      return moved
    })

async function watermarkOf(deps: Deps, dataset: string, tag: string): Promise<FreshAsOf | null> {
  const { watermark } = await versionRow(deps.pool, dataset, tag)
  return watermark === null ? null : { snapshot: watermark.snapshot, at: watermark.at }
}

/**
 * Brings readers back to where they were, if they still are where the drill took them; null: they are not. Whoever took them elsewhere meanwhile (a
 * rollback, say) meant it.
 */
export const drillBack =
  (deps: Deps) =>
  ({
    dataset,
    drillId,
    from,
    to,
    freshAsOf,
    bakeUntil,
    flipId,
  }: DrillBegun & { flipId: string }): Promise<DrillMove | null> =>
    asActivity(async (tell, signal) => {
      const store = await deps.store(dataset)
      return throughRestarts(
        async () => {
          await settleOpenFlips(deps, store, dataset)
          const pointer = (await store.pointer.read())?.pointer ?? null
          const isBack = pointer?.flips.some((flip) => flip.flipId === flipId) === true
          const isThere = pointer?.flipId === drillId && pointer.active?.tag === to.tag
          if (!isBack && (!isThere || from.tag === to.tag)) return null
          const expected = { tag: to.tag, epoch: (pointer as Pointer).epoch }
          // A hold is for refreshes: it keeps readers on no version that nobody chose for them.
          const back = { dataset, flipId, from: to.tag, to: from, expected, freshAsOf, allowHold: true }
          const moved = await move(deps, { ...back, ...(bakeUntil && { bakeUntil }) })
          await followAll(deps, { dataset, tell, signal })
          return moved
        },
        () => repair(deps, store, { dataset, madeAfter: flipId, tell, signal }),
      ).catch((error: unknown) => {
        const isOvertaken = isSnapflipError(error, 'CONFLICT') || isSnapflipError(error, 'SUPERSEDED')
        if (!isOvertaken && !isSnapflipError(error, 'VERSION_QUARANTINED')) throw error
        return null
      })
    })

async function move(
  deps: Deps,
  {
    dataset,
    flipId,
    from,
    to,
    ...change
  }: {
    dataset: string
    flipId: string
    from: string
    to: VersionRef
    expected: ExpectedState
    freshAsOf: FreshAsOf | null
    allowHold: boolean
    bakeUntil?: string
  },
): Promise<DrillMove> {
  const begun = performance.now()
  const store = await deps.store(dataset)
  const before = await flipOf(deps.pool, flipId)
  const intent = {
    flipId,
    dataset,
    kind: 'drill',
    from,
    to: to.tag,
    reason: before?.reason ?? 'a drill',
    actor: null,
  } as const
  await makeFlip(deps, store, { intent, change: { to, ...change } })
  return { toPointerMs: performance.now() - begun, at: new Date().toISOString() }
}

/** Closes the drill and says what it showed, and where readers are now: `pinned` where an operator keeps them from the active version. */
export const endDrill =
  (deps: Deps) =>
  (end: {
    dataset: string
    drillId: string
    outcome: DrillResult
    times: Record<string, number>
    summary: string
  }): Promise<{ active: string | null; pinned?: string }> =>
    asActivity(async () => {
      await recordEnd(deps.pool, end)
      const { dataset, outcome, times } = end
      deps.log.info({ dataset, step: 'drill', outcome, ...times }, end.summary)
      const pointer = (await (await deps.store(dataset)).pointer.read())?.pointer
      const active = pointer?.active?.tag ?? null
      const pinned = keptElsewhere(pointer ?? { pin: null }, active, Date.now())
      return { active, ...(pinned !== null && { pinned }) }
    })
