import { ApplicationFailure } from '@temporalio/activity'
import type { Epoch, Pointer, VersionRef } from '../schemas/pointer.ts'
import { type RollbackRequest, rollbackRequestSchema } from '../schemas/refresh.ts'
import type { BakePolicy } from '../schemas/watch.ts'
import { isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import { requireStore } from '../src/registry/apply-store.ts'
import { openDrillOf } from '../src/registry/drills.ts'
import { epochOf, type FlipRow, flipOf } from '../src/registry/flips.ts'
import { goodBefore } from '../src/registry/good-before.ts'
import { restoreVersion } from '../src/registry/restore-version.ts'
import { manifestsOf, type VersionRow, version as versionRow } from '../src/registry/version.ts'
import type { Store } from '../src/stores/ports.ts'
import { absorbBreakGlass } from './absorb.ts'
import { buildBack } from './build-back.ts'
import type { ChangeDeps } from './change-repaired.ts'
import { stands } from './copy-version.ts'
import type { Looking } from './damage.ts'
import { type Deps, datasetOf } from './deps.ts'
import { asActivity } from './failure.ts'
import { makeFlip } from './flip.ts'
import { readManifest } from './parent.ts'
import { parseRequest } from './parse-request.ts'
import { reconcile } from './reconcile.ts'
import { requesterOf } from './requester.ts'
import { requireEarlier } from './require-earlier.ts'
import { requireNotLeft } from './require-not-left.ts'
import { settleOpenFlips } from './settle-flips.ts'
import { throughRestarts } from './through-restarts.ts'
import { definitionOf } from './under-policy.ts'

export interface FlipBackRequest {
  flipId: string
  /** As it came from whoever started the workflow: not parsed yet. */
  request: unknown
  workflowId: string
  runId: string
  /** When a person asked for it; absent: it takes back what a refresh or flip has made. */
  askedAt?: string
}

/** A rollback that was made, and what has to follow it. */
export interface FlippedBack {
  dataset: string
  from: string
  to: string
  epoch: Epoch
  summary: string
  /** Whether the workflow may write our search attributes. */
  searchable: boolean
  /** How what readers then get is watched, where that is declared. */
  bake?: BakePolicy
  /** The further stores, which follow; absent where there are none. */
  stores?: string[]
}

/**
 * Takes the pointer back, quarantines what it leaves and puts the dataset on hold, all in one compare-and-set. A store that lost something
 * is repaired first; when that already leaves the active version, it is the rollback.
 */
export const flipBack =
  (deps: Deps) =>
  (asked: FlipBackRequest): Promise<FlippedBack> =>
    asActivity(async (tell, signal) => {
      const { flipId, workflowId, runId, askedAt } = asked
      const actor = async (request: RollbackRequest) =>
        (await requesterOf(deps, { action: 'rollback', request, workflowId, runId })).actor
      try {
        const back = await takeBack(deps, { flipId, actor, request: asked.request, askedAt }, { tell, signal })
        return { ...back, searchable: deps.searchable }
      } catch (error) {
        if (!isSnapflipError(error, 'NO_ACTIVE_VERSION')) throw error
        // A reader waits for a first version; a person who asked for a rollback is told.
        throw ApplicationFailure.nonRetryable(error.message, error.code, error.details)
      }
    })

/** What a rollback needs of the world: `Deps`, or what the command line opened. */
export type TakeBackDeps = ChangeDeps & Pick<Deps, 'config'>

/** The rollback itself, for the activity and for the command line, which does without Temporal. Again with the same flip id: finds it made. */
export function takeBack(
  deps: TakeBackDeps,
  asked: {
    flipId: string
    request: unknown
    actor: (request: RollbackRequest) => Promise<string>
    askedAt?: string | undefined
  },
  looking: Omit<Looking, 'dataset'>,
): Promise<Omit<FlippedBack, 'searchable'>> {
  // The store is looked at first each time, which repairs it.
  return throughRestarts(
    () => takeBackOnce(deps, asked, looking),
    async () => undefined,
  )
}

async function takeBackOnce(
  deps: TakeBackDeps,
  asked: Parameters<typeof takeBack>[1],
  { tell, signal }: Omit<Looking, 'dataset'>,
): Promise<Omit<FlippedBack, 'searchable'>> {
  const { flipId, askedAt = null } = asked
  const request = parseRequest(rollbackRequestSchema, asked.request, 'a rollback')
  const { dataset } = request
  // Where stores are is the file's to say: those that follow are looked up there.
  const [, ...stores] = datasetOf(deps.config, dataset).stores
  // First of all: a ticket that is not used up by its run is good for another one.
  const actor = await asked.actor(request)
  const { bake } = await definitionOf(deps, dataset)
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  const made = async (): Promise<FlipRow | null> => {
    await settleOpenFlips(deps, store, dataset)
    const flip = await flipOf(deps.pool, flipId)
    return flip?.outcome === 'confirmed' ? flip : null
  }
  let flip = await made()
  let repaired: string | null = null
  if (flip === null) {
    try {
      repaired = await move(deps, store, { request, flipId, actor, askedAt, bakeMs: bake?.forMs, tell, signal })
      flip = await made()
    } catch (error) {
      // Another attempt, paused until now, may have come first: then this one has nothing left to do.
      flip = await made()
      if (flip === null) throw error
    }
  }
  if (flip?.from == null) throw new Error(`rollback ${flipId} of ${dataset} was made, and its row is gone`)
  const { from, to } = flip
  const back = repaired ?? `${dataset} is back from ${from} at ${to}; ${from} is quarantined`
  const summary = `${back}, ${dataset} is on hold until \`snapflip resume ${dataset}\``
  return {
    dataset,
    from,
    to,
    epoch: epochOf(flip),
    summary,
    ...(bake && flip.bakeUntil !== null && { bake }),
    ...(stores.length > 0 && { stores }),
  }
}

/** What the repair told when that was the rollback; null when the flip was. */
async function move(
  deps: TakeBackDeps,
  store: Store,
  {
    request,
    flipId,
    actor,
    askedAt,
    bakeMs,
    tell,
    signal,
  }: {
    request: RollbackRequest
    flipId: string
    actor: string
    askedAt: string | null
    bakeMs: number | undefined
    tell: (progress: string) => void
    signal: AbortSignal
  },
): Promise<string | null> {
  const { dataset, reason, to } = request
  const hold = { by: actor, reason, at: new Date().toISOString() }
  const before = await flipOf(deps.pool, flipId)
  // Also when an earlier attempt intended this flip, and died before the store was set: what that one meant to repair is still to do.
  if (before?.outcome !== 'refused') {
    const rollback = { flipId, actor, reason, hold, to: before?.to ?? to ?? null, isWatched: true } as const
    const repaired = await reconcile(deps, store, { dataset, rollback, tell, signal })
    if (repaired?.outcome === 'moved') return repaired.summary
  }
  await absorbBreakGlass(deps, store, dataset)

  const earlier = await flipOf(deps.pool, flipId)
  const pointer = (await store.pointer.read())?.pointer ?? null
  const from = earlier?.from ?? pointer?.active?.tag ?? null
  if (pointer === null || from === null) {
    throw new SnapflipError(
      'NO_ACTIVE_VERSION',
      `Expected an active version of ${dataset} to go back from, found none. \`snapflip refresh ${dataset}\` makes one.`,
      { dataset },
    )
  }
  if (earlier === null) await requireNotLeft(deps.pool, request, { pointer, active: from, askedAt })
  const target = earlier?.to ?? to ?? (await targetOf(deps, dataset, pointer, from))
  const row = await versionRow(deps.pool, dataset, target)
  // One in any other state is refused for that.
  if (earlier === null && pointer.active !== null && row.state === 'retained')
    requireEarlier(dataset, pointer.active, row, await openDrillOf(deps.pool, dataset))
  const ref = await retainedRef(deps, store, { dataset, tell, signal }, row)
  await makeFlip(deps, store, {
    intent: { flipId, dataset, kind: 'rollback', from, to: target, reason, actor, ...(bakeMs && { bakeMs }) },
    change: {
      expected: { tag: from, epoch: pointer.epoch },
      to: ref,
      freshAsOf: row.watermark === null ? null : { snapshot: row.watermark.snapshot, at: row.watermark.at },
      also: { hold, quarantine: [from] },
      allowHold: true,
    },
  })
  return null
}

/** The version that was active before, as the pointer has it; else the newest retained one that came before. */
async function targetOf(deps: TakeBackDeps, dataset: string, pointer: Pointer, from: string): Promise<string> {
  if (pointer.previous !== null) return pointer.previous.tag
  const target = await goodBefore(deps.pool, { dataset, from, pointer })
  if (target !== null) return target
  throw new SnapflipError(
    'UNKNOWN_VERSION',
    `Expected a retained version of ${dataset} before ${from} to go back to, found none. \`snapflip versions ${dataset}\` lists what there is; name one with --to.`,
    { dataset, from },
  )
}

/** The target, if its manifest is in the store as the registry knows it, or as it was sealed, or another store has it to be copied back. */
async function retainedRef(deps: TakeBackDeps, store: Store, looking: Looking, row: VersionRow): Promise<VersionRef> {
  const { dataset } = looking
  const { tag, ordinal, digest } = row
  if (digest === null || row.manifestSha256 === null) {
    throw new SnapflipError('UNKNOWN_VERSION', `Expected a sealed version of ${dataset}, found ${tag} ${row.state}.`, {
      dataset,
      tag,
    })
  }
  for (const manifest of manifestsOf(row)) {
    const ref = { tag, ordinal, digest, manifest }
    if (!(await stands(store, ref))) continue
    const { generation } = await readManifest(store, dataset, ref)
    const there = { dataset, tag, digest, manifest, generation, url: store.url, from: store.url }
    if (manifest !== row.manifestSha256) await restoreVersion(deps.pool, there)
    return ref
  }
  const ref = { tag, ordinal, digest, manifest: row.manifestSha256 }
  const back = await buildBack(deps, store, looking, ref, [])
  await readManifest(store, dataset, back?.ref ?? ref)
  return back?.ref ?? ref
}
