import type { Pointer, VersionRef } from '../schemas/pointer.ts'
import { type ErrorCode, isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import type { FlipChange } from '../src/core/pointer.ts'
import { type FlipRow, flipOf } from '../src/registry/flips.ts'
import { type FlipIntent, intendFlip } from '../src/registry/intend-flip.ts'
import { settleFlip } from '../src/registry/settle-flip.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import { contradictedBy } from './contradicted.ts'
import { damageOf, type Looking } from './damage.ts'
import { type Deps, datasetOf } from './deps.ts'
import { asActivity } from './failure.ts'
import type { FlipFrom } from './parent.ts'
import { repair } from './reconcile.ts'
import { ruleOut, settleOpenFlips } from './settle-flips.ts'
import { throughRestarts } from './through-restarts.ts'
import { underPolicy } from './under-policy.ts'

export interface FlipRequest {
  refreshId: string
  dataset: string
  from: FlipFrom
  version: VersionRef
  flipId: string
  /** How long readers' counters are watched afterwards, where a bake is declared. */
  bakeMs?: number
}

/**
 * Moves the pointer to the version: intent, compare-and-set, outcome. Again with the same flip id: finds it made. A store that restarted since the
 * refresh began is looked at first, and so is the version: it may have lost the last of what was written.
 */
export const flip =
  (own: Deps) =>
  ({ refreshId, dataset, from, version, flipId, bakeMs }: FlipRequest): Promise<void> =>
    asActivity(async (tell, signal) => {
      const deps = await underPolicy(own, { dataset, refreshId })
      const store = await deps.store(dataset)
      const { watermark } = await versionRow(deps.pool, dataset, version.tag)
      const freshAsOf = watermark === null ? null : { snapshot: watermark.snapshot, at: watermark.at }
      const make = () =>
        makeFlip(deps, store, {
          intent: {
            flipId,
            dataset,
            kind: 'flip',
            from: from.tag,
            to: version.tag,
            reason: null,
            actor: null,
            refreshId,
            manifestSha256: version.manifest,
            ...(bakeMs === undefined ? {} : { bakeMs }),
          },
          change: { expected: from, to: version, freshAsOf, ttl: datasetOf(deps.config, dataset).ttl ?? null },
        })
      await throughRestarts(make, async () => {
        // Before the store takes flips again: an attempt that died between the two would leave the next one nothing to look for.
        await requireWhole(store, { dataset, tell, signal }, version)
        await repair(deps, store, { dataset, madeAfter: flipId, tell, signal })
      })
      // Whatever was still undecided has a lower epoch than this flip: it can no longer be made.
      await settleOpenFlips(deps, store, dataset)
    })

/**
 * The protocol of every flip and rollback: the registry issues the epoch and records the intent, the store's pointer is set, the outcome
 * is recorded. A crash in between leaves an intent whose outcome is read from the store (`settleOpenFlips`).
 */
export async function makeFlip(
  deps: Pick<Deps, 'pool' | 'log' | 'alert'>,
  store: Store,
  flip: {
    intent: FlipIntent
    change: Omit<FlipChange, 'kind' | 'flipId' | 'epoch' | 'anchor' | 'contradicted'>
  },
): Promise<{ registry: number; breakGlass: number }> {
  const { dataset, flipId, to, kind } = flip.intent
  const contradicted = await contradictedBy(deps, store, (await store.pointer.read())?.pointer ?? null)
  const { epoch, outcome, anchor, bakeUntil } = await intendFlip(deps.pool, flip.intent)
  if (outcome === 'confirmed') return epoch
  if (outcome !== null) throw settledBefore(flip.intent, await flipOf(deps.pool, flipId))
  let pointer: Pointer
  try {
    // A version that is gone back to was a rollback target before: its watch tells people, and takes nothing of that from it.
    const bake = kind === 'flip' && bakeUntil !== null ? { bakeUntil: bakeUntil.toISOString() } : {}
    const change = { kind: 'flip', flipId, epoch, anchor, ...contradicted, ...bake, ...flip.change } as const
    pointer = (await changePointer(store.pointer, change, { dataset })).pointer
  } catch (error) {
    // Refused is an outcome. A store that does not answer, or takes no write before it was looked at, is none: the next attempt reads it.
    if (!isSnapflipError(error) || error.code === 'STORE_UNREACHABLE' || error.code === 'STORE_REBOUND') throw error
    const made = await ruleOut(store, dataset, { flipId, epoch, expected: flip.change.expected })
    if (made === null) {
      await settleFlip(deps.pool, { flipId, outcome: 'refused', detail: { code: error.code, message: error.message } })
      throw error
    }
    pointer = made
  }
  // The hold as the pointer has it now: found `already` made, a rollback's may have been lifted since.
  const hold = flip.change.also?.hold === undefined ? null : pointer.hold
  const detail = { store: store.url }
  await settleFlip(deps.pool, { flipId, outcome: 'confirmed', detail, ...(hold === null ? {} : { hold }) })
  deps.log.info({ dataset, step: kind, version: to, epoch, flipId }, `${kind} made`)
  return epoch
}

/** Readers never get a version of which a restart has lost something. */
export async function requireWhole(store: Store, looking: Looking, version: VersionRef): Promise<void> {
  const damage = await damageOf(store, looking, version)
  if (damage === null) return
  const { dataset } = looking
  throw new SnapflipError(
    'PREFLIP_REFUSED',
    `${version.tag} of ${dataset} is not shown to readers: expected all of it in ${store.url} after that restarted, found ${damage}. Refresh again.`,
    { dataset, tag: version.tag, store: store.url },
  )
}

/** An earlier attempt was refused, and nobody may make the flip after that: what it was told is told again. */
function settledBefore({ flipId, dataset, kind, to }: FlipIntent, settled: FlipRow | null): SnapflipError {
  const { code, message } = { code: 'SUPERSEDED', message: '', ...settled?.detail } as {
    code: ErrorCode
    message: string
  }
  const refused = `${kind} ${flipId} of ${dataset} to ${to} was refused before.`
  return new SnapflipError(code, message === '' ? refused : `${refused} ${message}`, { dataset, flipId, to })
}
