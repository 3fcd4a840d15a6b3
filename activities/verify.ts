import type { IndexManifest, Manifest } from '../schemas/manifest.ts'
import type { VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import { keptElsewhere } from '../src/core/readers-on.ts'
import type { Alert } from '../src/observe/alert.ts'
import { openReader } from '../src/reader/open.ts'
import { endBake } from '../src/registry/end-bake.ts'
import { confirmedFlips } from '../src/registry/flips.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { eachEntry } from '../src/snapshot/block.ts'
import { sharesLayout, writtenBlocks } from '../src/snapshot/differences.ts'
import { type Entry, readBlocks, sampleBlocks } from '../src/snapshot/read.ts'
import { openStore } from '../src/stores/open.ts'
import type { Store } from '../src/stores/ports.ts'
import { adoptionOf } from './adoption.ts'
import { damageOf, type Looking } from './damage.ts'
import { type Deps, datasetOf, storeUrl } from './deps.ts'
import { asActivity } from './failure.ts'
import { nextGood } from './next-good.ts'
import { parentOf, readManifest } from './parent.ts'
import { repair } from './reconcile.ts'

/** Entries of each index that are read back through the SDK, of those this version wrote; all of them where there are no more. */
const ENTRIES_MAX = 10_000
/** Of an incremental version's entries, those it shares with its parent: few, since readers have been on them already. */
const SHARED_ENTRIES_MAX = 500
/** Keys a call of the SDK is given at once. */
const KEYS_A_CALL = 500

/** What readers got right after the flip. */
export interface ReadBack {
  summary: string
  /** False: a later flip or rollback took readers elsewhere meanwhile, and nothing is said of the version. */
  isActive: boolean
  /** Where an operator's pin keeps readers on another version than the one that was read back. */
  pinned?: string
  /** No flip took readers elsewhere: the store had lost the version, and this came of that. */
  lost?: 'ROLLED_BACK' | 'FAILED'
}

/** Reads the version back as readers do, once it is active. What does not read back is told, and thrown as VERIFY_FAILED. */
export const verify =
  (deps: Deps) =>
  ({ dataset, version }: { dataset: string; version: VersionRef }): Promise<ReadBack> =>
    asActivity((tell, signal) => readBack(deps, dataset, version, 'VERIFY_FAILED', tell, signal))

/** What a refresh flipped to that died before it read that back, and that does not read back. */
export interface LeftBad {
  left: { refreshId: string; flipId: string; tag: string }
  summary: string
}

/** For a refresh that takes over: what the dead one made active it may not have read back. Null: nothing is wrong with it; what is was told. */
export async function readLeftBack(
  deps: Deps,
  refreshId: string,
  { dataset, tell, signal }: Looking,
): Promise<LeftBad | null> {
  const [last] = await confirmedFlips(deps.pool, dataset, 1)
  const active = (await (await deps.store(dataset)).pointer.read())?.pointer.active ?? null
  if (last?.refreshId !== refreshId || active?.tag !== last.to) return null
  try {
    await readBack(deps, dataset, active, 'VERIFY_FAILED', tell, signal)
    return null
  } catch (error) {
    if (!isSnapflipError(error, 'VERIFY_FAILED')) throw error
    return { left: { refreshId, flipId: last.flipId, tag: last.to }, summary: error.message }
  }
}

/** Longer than readers take to report what they have followed (5 s unless they say otherwise). */
const ADOPTION_MS = 7_000

/**
 * The same after a rollback, and more: every block of the target, and how many readers have followed. When it is unhealthy, a person must look, and is
 * told which version is the next; the pointer is not moved again by itself.
 */
export const verifyRollback =
  (deps: Deps) =>
  ({ dataset, tag }: { dataset: string; tag: string }): Promise<ReadBack> =>
    asActivity(async (tell, signal) => {
      const row = await versionRow(deps.pool, dataset, tag)
      const ref = { tag, ordinal: row.ordinal, digest: row.digest ?? '', manifest: row.manifestSha256 ?? '' }
      const read = await readBack(deps, dataset, ref, 'ROLLBACK_UNHEALTHY', tell, signal)
      if (!read.isActive) return read
      const store = await deps.store(dataset)
      const pointer = (await store.pointer.read())?.pointer ?? null
      tell('waiting for the reports of readers')
      const readers = await adoptionOf(store, pointer, { waitMs: ADOPTION_MS, signal })
      return { ...read, summary: `${read.summary}, every block is whole. ${readers.summary}` }
    })

type Kind = Extract<Alert['kind'], 'VERIFY_FAILED' | 'ROLLBACK_UNHEALTHY'>

/**
 * A pointer that names another version may have lost the flip, as after a failover: the store is repaired then, which may make the version active again.
 */
async function readBack(
  deps: Deps,
  dataset: string,
  version: VersionRef,
  kind: Kind,
  tell: (progress: string) => void,
  signal: AbortSignal,
): Promise<ReadBack> {
  const read = await readOnce(deps, dataset, version, kind, tell, signal)
  if (read.isActive) return read
  const repaired = await repair(deps, await deps.store(dataset), { dataset, tell, signal })
  if (repaired === null) return read
  const again = await readOnce(deps, dataset, version, kind, tell, signal)
  const { outcome, summary } = repaired
  if (again.isActive || outcome === 'asserted' || outcome === 'restored') return again
  return { summary, isActive: false, lost: outcome === 'moved' ? 'ROLLED_BACK' : 'FAILED' }
}

async function readOnce(
  deps: Deps,
  dataset: string,
  version: VersionRef,
  kind: Kind,
  tell: (progress: string) => void,
  signal: AbortSignal,
): Promise<ReadBack> {
  try {
    const read = await readThroughSdk(deps, dataset, version, tell, signal)
    // It may have been left since; what the whole read pinned did not hear of that.
    if (read === null || (await flipTo(deps, dataset, version)) === null) return await overtaken(deps, dataset, version)
    if (kind === 'ROLLBACK_UNHEALTHY') await requireWhole(deps, dataset, version, { tell, signal })
    deps.log.info({ dataset, version: version.tag, step: 'verify', keys: read }, 'read back through the SDK')
    const pointer = (await (await deps.store(dataset)).pointer.read())?.pointer
    const pinned = keptElsewhere(pointer ?? { pin: null }, version.tag, Date.now())
    const summary = `${read} keys read back through the SDK`
    return pinned === null ? { summary, isActive: true } : { summary: `${pinned}; ${summary}`, isActive: true, pinned }
  } catch (error) {
    // A store that does not answer says nothing about the version; the activity is tried again.
    if (!isSnapflipError(error) || error.retryable) throw error
    // Taking readers back from a version that they have left would take them from a good one.
    const incident = await flipTo(deps, dataset, version)
    if (incident === null) return await overtaken(deps, dataset, version)
    const next =
      kind === 'ROLLBACK_UNHEALTHY' ? ` ${await nextGood(deps, await deps.store(dataset), dataset, version.tag)}` : ''
    const summary = `${version.tag} of ${dataset} does not read back: ${error.message}${next}`
    const evidence = { code: error.code, message: error.message }
    await deps.alert({ kind, dataset, version: version.tag, incident, summary, evidence })
    // Nothing is left to watch: what replaces it does not wait for that.
    const [last] = await confirmedFlips(deps.pool, dataset, 1)
    if (last?.flipId === incident)
      await endBake(deps.pool, { flipId: incident, outcome: 'failed', detail: { summary } })
    throw new SnapflipError('VERIFY_FAILED', summary, { dataset, tag: version.tag, kind }, error)
  }
}

/** Throws CORRUPT. */
async function requireWhole(
  deps: Deps,
  dataset: string,
  version: VersionRef,
  { tell, signal }: Omit<Looking, 'dataset'>,
): Promise<void> {
  const damage = await damageOf(await deps.store(dataset), { dataset, tell, signal }, version)
  if (damage !== null) throw new SnapflipError('CORRUPT', damage, { dataset, tag: version.tag })
}

/** The flip that made the version active; null when another is by now. */
async function flipTo(deps: Deps, dataset: string, version: VersionRef): Promise<string | null> {
  const pointer = (await (await deps.store(dataset)).pointer.read())?.pointer
  return pointer?.active?.manifest === version.manifest ? (pointer.flipId ?? version.manifest) : null
}

async function overtaken(deps: Deps, dataset: string, version: VersionRef): Promise<ReadBack> {
  const active = (await (await deps.store(dataset)).pointer.read())?.pointer.active?.tag ?? null
  const summary = `${version.tag} was left for ${active ?? 'no version'} before it was read back`
  deps.log.warn({ dataset, version: version.tag, step: 'verify', active }, summary)
  return { summary, isActive: false }
}

/**
 * How many keys read back, all at one pin, whatever flips meanwhile, and whatever an operator's pin has other readers answer from: readers land on
 * the active version when that runs out. Null: another version is active.
 */
export async function readThroughSdk(
  deps: Pick<Deps, 'config' | 'store'>,
  dataset: string,
  version: VersionRef,
  tell: (progress: string) => void,
  signal: AbortSignal,
): Promise<number | null> {
  datasetOf(deps.config, dataset)
  const store = await deps.store(dataset)
  if ((await store.pointer.read())?.pointer.active?.manifest !== version.manifest) return null
  const manifest = await readManifest(store, dataset, version)
  const parent = await parentOf(store, manifest)
  const own = await openStore(storeUrl(deps.config, dataset), { dataset })
  const reader = await openReader([own], dataset, { reportMs: 0 }).catch(async (error: unknown) => {
    await own.close()
    throw error
  })
  let keysRead = 0
  try {
    // By its tag: a version beyond the dataset's budget is refused to others, and has to be read here all the same.
    const pin = await reader.pin({ version: version.tag })
    for (const name of Object.keys(manifest.indexes)) {
      const expected = await entriesOf(store, manifest, name, parent?.indexes[name])
      const byKey = Map.groupBy(expected, (entry) => entry.key.toString('utf8'))
      const keys = [...byKey.keys()]
      for (let from = 0; from < keys.length; from += KEYS_A_CALL) {
        signal.throwIfAborted()
        const some = keys.slice(from, from + KEYS_A_CALL)
        const read = await pin.getManyBytes(
          name,
          some.map((key) => key.split('\0')),
        )
        for (const [n, key] of some.entries()) {
          const wanted = (byKey.get(key) ?? []).map((entry) => entry.value)
          const found = read[n] ?? []
          if (wanted.length !== found.length || wanted.some((value, at) => !value.equals(found[at] as Buffer))) {
            throw new SnapflipError(
              'CORRUPT',
              `a key of ${name} reads as ${found.length} other values than the ${wanted.length} that were sealed.`,
              { dataset, tag: version.tag, index: name },
            )
          }
        }
        keysRead += some.length
        tell(`${name}: ${keysRead} keys read back`)
      }
    }
    return keysRead
  } finally {
    await reader.close()
  }
}

/** What must read back: entries of the blocks that this version wrote, and some of those that it shares with its parent. */
async function entriesOf(
  store: Store,
  manifest: Manifest,
  name: string,
  former: IndexManifest | undefined,
): Promise<Entry[]> {
  const index = manifest.indexes[name] as IndexManifest
  const where = { dataset: manifest.dataset, index: name, tag: manifest.tag }
  if (former === undefined || index.build === 'full' || !sharesLayout(index, former))
    return sampleBlocks(store.data, where, index, ENTRIES_MAX)
  const blocksMax = Math.ceil((ENTRIES_MAX * 2 ** index.bits) / Math.max(1, index.count))
  const written = await writtenBlocks(store.data, where, index, former, blocksMax)
  const entries = await sampleBlocks(store.data, where, index, SHARED_ENTRIES_MAX)
  // A block drawn twice is read back once: its entries would stand twice among what is expected.
  const drawn = new Set(entries.map((entry) => entry.key.toString('latin1')))
  for (const [block, raw] of await readBlocks(store.data, where, index, written))
    eachEntry(raw, index.kind === 'many', block, where, (_start, keyStart, keyEnd, valueStart, end) => {
      const key = raw.subarray(keyStart, keyEnd)
      if (!drawn.has(key.toString('latin1'))) entries.push({ key, order: null, value: raw.subarray(valueStart, end) })
    })
  return entries
}
