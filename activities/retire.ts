import type { Manifest } from '../schemas/manifest.ts'
import { prune } from '../src/changelog/prune.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import type { PointerChange } from '../src/core/pointer.ts'
import { journalledGenerations } from '../src/registry/journalled-generations.ts'
import { neededWatermarks } from '../src/registry/needed-watermarks.ts'
import { retirable } from '../src/registry/retirable.ts'
import { retire as retireVersion, swept } from '../src/registry/retire.ts'
import { sweptGeneration } from '../src/registry/swept-generation.ts'
import { type VersionRow, version as versionRow } from '../src/registry/version.ts'
import { versions } from '../src/registry/versions.ts'
import { decodeManifest } from '../src/snapshot/manifest.ts'
import { sweepVersion } from '../src/snapshot/retire.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Looking } from './damage.ts'
import { type Deps, datasetOf } from './deps.ts'
import { asActivity } from './failure.ts'
import { readManifest } from './parent.ts'
import { repair } from './reconcile.ts'
import { throughRestarts } from './through-restarts.ts'
import { removeFinishedWork } from './work-folder.ts'

/** A build ends within the 24 hours that its activity is given (workflows/activities.ts), whichever registry it belongs to. */
const UNKNOWN_AGE_MIN_MS = 48 * 3_600_000

export interface Retired {
  retired: string[]
  swept: string[]
  generations: number
}

/** Keeps the last N versions; retires the others, then deletes of the retired what no lease and no other version needs. */
export const retire =
  (deps: Deps) =>
  ({ dataset }: { dataset: string }): Promise<Retired> =>
    asActivity(async (tell, signal) => {
      const { keep, retireAfterMs } = datasetOf(deps.config, dataset)
      const store = await deps.store(dataset)
      const retired = await retirable(deps.pool, { dataset, keep, olderThanMs: retireAfterMs })
      for (const tag of retired)
        await retireOne(deps, store, { dataset, tell, signal }, tag, `beyond the ${keep} that are kept`)
      const swept = await sweep(deps, store, { dataset, tell, signal })
      await pruneChangelog(deps, signal)
      return { retired, ...swept }
    })

/** What is left of refreshes that failed: their versions are retired at once, their generations deleted. */
export const discard =
  (deps: Deps) =>
  ({ dataset }: { dataset: string }): Promise<Retired> =>
    asActivity(async (tell, signal) => {
      await removeFinishedWork(deps)
      const store = await deps.store(dataset)
      const retired: string[] = []
      for (const row of await versions(deps.pool, dataset, { states: ['sealed'] })) {
        if (await retireOne(deps, store, { dataset, tell, signal }, row.tag, 'its refresh failed'))
          retired.push(row.tag)
      }
      return { retired, ...(await sweep(deps, store, { dataset, tell, signal })) }
    })

/** Marks it in the registry, then in the pointer: from there on no flip, rollback or new lease takes it. False: it is needed. */
async function retireOne(deps: Deps, store: Store, looking: Looking, tag: string, why: string): Promise<boolean> {
  const { dataset } = looking
  try {
    await retireVersion(deps.pool, { dataset, tag, why })
    return await mark(deps, store, looking, tag)
  } catch (error) {
    if (!isSnapflipError(error, 'CONFLICT')) throw error
    deps.log.info({ dataset, version: tag, step: 'retire' }, `not retired: ${error.message}`)
    return false
  }
}

/** False: the pointer still needs it (as what a rollback goes to, say), whatever the registry says. It stays until a later sweep. */
async function mark(deps: Deps, store: Store, looking: Looking, tag: string): Promise<boolean> {
  const { dataset } = looking
  try {
    await change(deps, store, looking, { kind: 'retire', tag })
    return true
  } catch (error) {
    if (!isSnapflipError(error, 'CONFLICT')) throw error
    deps.log.warn({ dataset, version: tag, step: 'retire' }, `retired in the registry alone: ${error.message}`)
    return false
  }
}

async function change(deps: Deps, store: Store, looking: Looking, asked: PointerChange): Promise<void> {
  const { dataset } = looking
  await throughRestarts(
    () => changePointer(store.pointer, asked, { dataset }),
    () => repair(deps, store, looking),
  )
}

/**
 * Deletes what only retired, unleased versions hold, and generations that belong to no version. Leases are listed after the versions were marked
 * in the pointer: a reader that wrote its lease before the mark is seen here, one that came later sees the mark.
 */
async function sweep(deps: Deps, store: Store, looking: Looking): Promise<Pick<Retired, 'swept' | 'generations'>> {
  const { dataset, tell, signal } = looking
  const marked: string[] = []
  // Marked again here: a crash between registry and pointer may have left one unmarked.
  for (const { tag } of await versions(deps.pool, dataset, { states: ['retired'] })) {
    if (await mark(deps, store, looking, tag)) marked.push(tag)
  }
  const leases = await store.leases.list()
  const leased = new Set(leases.map((lease) => lease.tag))
  for (const { id, tag, expiresAt } of leases) {
    if (tag !== null) continue
    const found = { dataset, step: 'retire', lease: id, store: store.url, expiresAt }
    deps.log.warn(found, 'not a lease that can be read: no version is swept until it would have ended, or is removed')
  }
  const going = leased.has(null) ? [] : marked.filter((tag) => !leased.has(tag))

  const tags = await store.data.listManifests()
  const present = await versions(deps.pool, dataset, { tags })
  // Put late by a paused worker whose refresh was closed meanwhile: nobody can flip to it.
  for (const { tag, state } of present) if (state === 'swept') await store.data.deleteManifest(tag)

  const staying = await manifestsOf(
    store,
    dataset,
    present,
    ({ tag, state }) => state !== 'swept' && !going.includes(tag),
  )
  // One that the registry does not know (it was restored, or is behind) stays, with all that it names, until a plan has adopted it.
  for (const tag of tags.filter((tag) => !present.some((row) => row.tag === tag))) {
    const bytes = await store.data.readManifest(tag)
    if (bytes !== null) staying.set(tag, decodeManifest(bytes, { dataset, tag }))
  }
  const leaving = new Map<string, Manifest | null>()
  for (const tag of going) leaving.set(tag, await leavingManifest(deps, store, dataset, tag))
  const gone: string[] = []
  for (const [tag, manifest] of [...leaving]) {
    signal.throwIfAborted()
    tell(`sweeping ${tag}`)
    leaving.delete(tag)
    const isSwept = manifest === null || (await sweepObjects(deps, store, manifest, { staying, leaving }))
    if (!isSwept) {
      leaving.set(tag, manifest)
      continue
    }
    await store.data.deleteManifest(tag)
    // The registry last: what a crash leaves undone is then found again by the next sweep, as retired.
    await change(deps, store, looking, { kind: 'forget', tag })
    await swept(deps.pool, { dataset, tag })
    gone.push(tag)
  }
  await store.counters.dropExpired()
  return { swept: gone, generations: await sweepGenerations(deps, store, dataset) }
}

/** Null when there is none, or none that can be read: its own generations are then found by `sweepGenerations`. */
async function leavingManifest(deps: Deps, store: Store, dataset: string, tag: string): Promise<Manifest | null> {
  const { manifestSha256 } = await versionRow(deps.pool, dataset, tag)
  if (manifestSha256 === null) return null
  try {
    return await readManifest(store, dataset, { tag, manifest: manifestSha256 })
  } catch (error) {
    if (!isSnapflipError(error, 'CORRUPT') && !isSnapflipError(error, 'VERSION_RETIRED')) throw error
    deps.log.warn({ err: error, dataset, version: tag }, 'its manifest cannot be read; swept without it')
    return null
  }
}

/** False: a version that stays cannot be read, so what it shares is not known. This one stays until a later sweep, with its manifest. */
async function sweepObjects(
  deps: Deps,
  store: Store,
  manifest: Manifest,
  { staying, leaving }: Record<'staying' | 'leaving', ReadonlyMap<string, Manifest | null>>,
): Promise<boolean> {
  const { dataset, tag } = manifest
  const onDamage = (err: unknown) =>
    deps.log.warn({ err, dataset, version: tag, step: 'retire' }, 'damaged; swept around')
  const manifests = (of: ReadonlyMap<string, Manifest | null>) =>
    [...of.values()].filter((manifest) => manifest !== null)
  try {
    await sweepVersion(store.data, manifest, { retained: manifests(staying), leaving: manifests(leaving), onDamage })
    return true
  } catch (error) {
    if (!isSnapflipError(error, 'CORRUPT')) throw error
    deps.log.warn({ err: error, dataset, version: tag, step: 'retire' }, 'not swept: a version that stays is damaged')
    return false
  }
}

/**
 * Deletes generations that no manifest names and no open refresh may still write to. Attempts that were given up; those of a paused worker
 * that wrote again after its generation was deleted; those of a version whose manifest could not be read when it was swept. One that the
 * registry does not know (it was restored, or another one writes here) goes when it is older than any build.
 */
async function sweepGenerations(deps: Deps, store: Store, dataset: string): Promise<number> {
  const begun = await store.data.generations()
  const generations = begun.map(({ generation }) => generation)
  // The registry before the manifests: what had ended by then has put its own, or can do nothing with it any more.
  const journal = await journalledGenerations(deps.pool, { dataset, store: store.url, generations })
  const used = await usedGenerations(deps, store, dataset)
  const youngestUnknown = Date.now() - UNKNOWN_AGE_MIN_MS
  let deleted = 0
  for (const { generation, begunAt } of begun) {
    if (used.has(generation)) continue
    const state = journal.get(generation)
    if (state === 'open' || (state === undefined && begunAt.getTime() > youngestUnknown)) continue
    await store.data.deleteGeneration(generation)
    deps.log.info({ dataset, step: 'retire', generation, state: state ?? 'unknown' }, 'generation swept')
    deleted++
  }
  for (const [generation, state] of journal) {
    if (state === 'abandoned' && !used.has(generation))
      await sweptGeneration(deps.pool, { dataset, generation, store: store.url })
  }
  return deleted
}

/** Of every manifest in the store, those too that the registry does not know. Throws CORRUPT when one cannot be read: then nothing is known to be dead. */
async function usedGenerations(deps: Deps, store: Store, dataset: string): Promise<Set<string>> {
  const tags = await store.data.listManifests()
  const shas = new Map((await versions(deps.pool, dataset, { tags })).map((row) => [row.tag, row.manifestSha256]))
  const used = new Set<string>()
  for (const tag of tags) {
    const bytes = await store.data.readManifest(tag)
    if (bytes === null) continue
    const sha256 = shas.get(tag)
    const manifest = decodeManifest(bytes, { dataset, tag, ...(sha256 ? { sha256 } : {}) })
    used.add(manifest.generation)
    for (const source of manifest.sources) used.add(source.generation)
  }
  return used
}

async function manifestsOf(
  store: Store,
  dataset: string,
  rows: readonly VersionRow[],
  wanted: (row: VersionRow) => boolean,
): Promise<Map<string, Manifest>> {
  const manifests = new Map<string, Manifest>()
  for (const row of rows) {
    const { tag, manifestSha256 } = row
    if (manifestSha256 === null || !wanted(row)) continue
    manifests.set(tag, await readManifest(store, dataset, { tag, manifest: manifestSha256 }))
  }
  return manifests
}

/** Changes that every retained version already holds. Fails for nobody: the next retirement prunes again. */
async function pruneChangelog(deps: Deps, signal: AbortSignal): Promise<void> {
  const client = await deps.builder()
  try {
    const pruned = await prune(client, await neededWatermarks(deps.pool), signal)
    deps.log.debug({ step: 'retire', ...pruned }, 'changelog pruned')
  } finally {
    await client.end()
  }
}
