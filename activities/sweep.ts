import type { Manifest } from '../schemas/manifest.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import type { PointerChange } from '../src/core/pointer.ts'
import { copies, forgetCopies } from '../src/registry/copies.ts'
import { journalledGenerations } from '../src/registry/journalled-generations.ts'
import { swept } from '../src/registry/retire.ts'
import { sweptGeneration } from '../src/registry/swept-generation.ts'
import { manifestsOf } from '../src/registry/version.ts'
import { versions } from '../src/registry/versions.ts'
import { decodeManifest, manifestHash } from '../src/snapshot/manifest.ts'
import { sweepVersion } from '../src/snapshot/retire.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Looking } from './damage.ts'
import type { Deps } from './deps.ts'
import { repair } from './reconcile.ts'
import { throughRestarts } from './through-restarts.ts'

/** A build ends within the 24 hours that its activity is given (workflows/activities.ts), whichever registry it belongs to. */
const UNKNOWN_AGE_MIN_MS = 48 * 3_600_000

/** Tags of versions, and a number of abandoned generations, of which nothing is left. */
export interface Swept {
  swept: string[]
  generations: number
}

/** A store that is swept. Each has leases of its own: a version that one has deleted may still be read in another. */
export interface Place {
  store: Store
  change(asked: PointerChange): Promise<void>
  /** Tags that may go, for all that the registry knows. */
  leaving(): Promise<string[]>
  /** Tags of the manifests that are there, after those were deleted that nobody can flip to. */
  present(): Promise<string[]>
  /** What the manifest of a version has to be there, one of these; none: it is not known. */
  hashesOf(tag: string): Promise<string[]>
  gone(tag: string): Promise<void>
}

export function firstPlace(deps: Deps, store: Store, looking: Looking): Place {
  const { dataset } = looking
  return {
    store,
    change: (asked) =>
      throughRestarts(
        async () => void (await changePointer(store.pointer, asked, { dataset })),
        () => repair(deps, store, looking),
      ),
    leaving: async () => (await versions(deps.pool, dataset, { states: ['retired'] })).map(({ tag }) => tag),
    present: async () => {
      const tags = await store.data.listManifests()
      // Put late by a paused worker whose refresh was closed meanwhile: nobody can flip to it.
      const late = (await versions(deps.pool, dataset, { tags, states: ['swept'] })).map(({ tag }) => tag)
      for (const tag of late) await store.data.deleteManifest(tag)
      return tags.filter((tag) => !late.includes(tag))
    },
    hashesOf: async (tag) => (await versions(deps.pool, dataset, { tags: [tag] })).flatMap(manifestsOf),
    // The registry last: what a crash leaves undone is then found again by the next sweep, as retired.
    gone: (tag) => swept(deps.pool, { dataset, tag }),
  }
}

/** Retired versions may be gone from the first store long ago. */
function furtherPlace(deps: Deps, store: Store, { dataset }: Looking): Place {
  const { url } = store
  const present = () => store.data.listManifests()
  return {
    store,
    change: async (asked) => void (await changePointer(store.pointer, asked, { dataset })),
    leaving: async () => {
      const tags = await present()
      return (await versions(deps.pool, dataset, { tags, states: ['retired', 'swept'] })).map(({ tag }) => tag)
    },
    present,
    hashesOf: async (tag) => {
      const copy = (await copies(deps.pool, { dataset, url })).get(tag)
      return copy === undefined ? [] : [copy.manifest]
    },
    gone: (tag) => forgetCopies(deps.pool, { dataset, url, tags: [tag], why: 'it was retired' }),
  }
}

export function sweepFirst(deps: Deps, store: Store, looking: Looking): Promise<Swept> {
  return sweep(deps, firstPlace(deps, store, looking), looking)
}

/** One that does not answer, or was not brought up yet, is swept another time. */
export async function sweepFurther(deps: Deps, looking: Looking): Promise<void> {
  const { dataset } = looking
  for (const { store } of await deps.furtherStores(dataset)) {
    try {
      if ((await store.pointer.read()) !== null) await sweep(deps, furtherPlace(deps, store, looking), looking)
    } catch (error) {
      if (!isSnapflipError(error)) throw error
      deps.log.warn({ err: error, dataset, step: 'retire', store: store.url }, 'not swept')
    }
  }
}

/** False: the pointer still needs it (as what a rollback goes to, say), whatever the registry says. It stays until a later sweep. */
export async function mark(deps: Deps, place: Place, dataset: string, tag: string): Promise<boolean> {
  try {
    await place.change({ kind: 'retire', tag })
    return true
  } catch (error) {
    if (!isSnapflipError(error, 'CONFLICT')) throw error
    deps.log.warn({ dataset, version: tag, step: 'retire' }, `retired in the registry alone: ${error.message}`)
    return false
  }
}

/**
 * Deletes what only retired, unleased versions hold, and generations that belong to no version. Leases are listed after the versions were marked
 * in the pointer: a reader that wrote its lease before the mark is seen here, one that came later sees the mark.
 */
async function sweep(deps: Deps, place: Place, looking: Looking): Promise<Swept> {
  const { dataset, tell, signal } = looking
  const { store } = place
  const marked: string[] = []
  // Marked again here: a crash between registry and pointer may have left one unmarked.
  for (const tag of await place.leaving()) if (await mark(deps, place, dataset, tag)) marked.push(tag)
  const leases = await store.leases.list()
  const leased = new Set(leases.map((lease) => lease.tag))
  for (const { id, tag, expiresAt } of leases) {
    if (tag !== null) continue
    const found = { dataset, step: 'retire', lease: id, store: store.url, expiresAt }
    deps.log.warn(found, 'not a lease that can be read: no version is swept until it would have ended, or is removed')
  }
  const going = leased.has(null) ? [] : marked.filter((tag) => !leased.has(tag))

  const staying = new Map<string, Manifest>()
  // One that the registry does not know (it was restored, or is behind) stays, with all that it names, until a plan has adopted it.
  for (const tag of await place.present()) {
    if (going.includes(tag)) continue
    const manifest = await manifestIn(place, dataset, tag)
    if (manifest !== null) staying.set(tag, manifest)
  }
  const leaving = new Map<string, Manifest | null>()
  for (const tag of going) leaving.set(tag, await leavingManifest(deps, place, dataset, tag))
  const gone: string[] = []
  for (const [tag, manifest] of [...leaving]) {
    signal.throwIfAborted()
    tell(`sweeping ${tag}`)
    if (!(await areStillMarked(store, [...leaving.keys()]))) {
      deps.log.warn({ dataset, version: tag, step: 'retire' }, 'not swept: a mark in the pointer was undone')
      break
    }
    leaving.delete(tag)
    const isSwept = manifest === null || (await sweepObjects(deps, store, manifest, { staying, leaving }))
    if (!isSwept) {
      leaving.set(tag, manifest)
      continue
    }
    await store.data.deleteManifest(tag)
    // The registry last: what a crash leaves undone is then found again by the next sweep, as retired.
    await place.change({ kind: 'forget', tag })
    await place.gone(tag)
    gone.push(tag)
  }
  await store.counters.dropExpired()
  return { swept: gone, generations: await sweepGenerations(deps, place, dataset) }
}

/**
 * Looked at again right before anything is deleted: a failover may have undone a mark since, and a break-glass rollback or a reader taken the
 * version, which nothing then refused. In a server that is not bound nobody knows what is undone. Of all that leave: what one shares with
 * another that stays after all is not dead.
 */
async function areStillMarked(store: Store, tags: readonly string[]): Promise<boolean> {
  const retired = (await store.pointer.read())?.pointer.retired ?? []
  return tags.every((tag) => retired.includes(tag)) && (await store.pointer.isBound())
}

/** Null when there is none, or none that can be read: its own generations are then found by `sweepGenerations`. */
async function leavingManifest(deps: Deps, place: Place, dataset: string, tag: string): Promise<Manifest | null> {
  try {
    return await manifestIn(place, dataset, tag)
  } catch (error) {
    if (!isSnapflipError(error, 'CORRUPT')) throw error
    deps.log.warn({ err: error, dataset, version: tag }, 'its manifest cannot be read; swept without it')
    return null
  }
}

/** Null: there is none. Throws CORRUPT. */
async function manifestIn({ store, hashesOf }: Place, dataset: string, tag: string): Promise<Manifest | null> {
  const bytes = await store.data.readManifest(tag)
  if (bytes === null) return null
  const known = await hashesOf(tag)
  const found = manifestHash(bytes)
  const sha256 = known.includes(found) ? found : known[0]
  return decodeManifest(bytes, { dataset, tag, ...(sha256 === undefined ? {} : { sha256 }) })
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
async function sweepGenerations(deps: Deps, place: Place, dataset: string): Promise<number> {
  const { store } = place
  const begun = await store.data.generations()
  const generations = begun.map(({ generation }) => generation)
  // The registry before the manifests: what had ended by then has put its own, or can do nothing with it any more.
  const journal = await journalledGenerations(deps.pool, { dataset, store: store.url, generations })
  const used = await usedGenerations(place, dataset)
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
async function usedGenerations(place: Place, dataset: string): Promise<Set<string>> {
  const used = new Set<string>()
  for (const tag of await place.store.data.listManifests()) {
    const manifest = await manifestIn(place, dataset, tag)
    if (manifest === null) continue
    used.add(manifest.generation)
    for (const source of manifest.sources) used.add(source.generation)
  }
  return used
}
