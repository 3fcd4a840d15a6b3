import type { Manifest } from '../schemas/manifest.ts'
import { prune } from '../src/changelog/prune.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { abandonedGenerations } from '../src/registry/abandoned-generations.ts'
import { neededWatermarks } from '../src/registry/needed-watermarks.ts'
import { retirable } from '../src/registry/retirable.ts'
import { retire as retireVersion, swept } from '../src/registry/retire.ts'
import { sweptGeneration } from '../src/registry/swept-generation.ts'
import { versions } from '../src/registry/versions.ts'
import { deadUnits } from '../src/snapshot/retire.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import { type Deps, datasetOf } from './deps.ts'
import { asActivity, heartbeating } from './failure.ts'
import { readManifest } from './parent.ts'

export interface Retired {
  retired: string[]
  swept: string[]
  generations: number
}

/** Keeps the last N versions; retires the others, then deletes of the retired what no lease and no other version needs. */
export const retire =
  (deps: Deps) =>
  ({ dataset }: { dataset: string }): Promise<Retired> =>
    asActivity(() =>
      heartbeating(async (tell, signal) => {
        const { keep, retireAfterMs } = datasetOf(deps.config, dataset)
        const store = await deps.store(dataset)
        const retired = await retirable(deps.pool, { dataset, keep, olderThanMs: retireAfterMs })
        for (const tag of retired) await retireOne(deps, store, dataset, tag, `beyond the ${keep} that are kept`)
        const swept = await sweep(deps, store, dataset, { tell, signal })
        await pruneChangelog(deps, signal)
        return { retired, ...swept }
      }),
    )

/** What is left of refreshes that failed: their versions are retired at once, their generations deleted. */
export const discard =
  (deps: Deps) =>
  ({ dataset }: { dataset: string }): Promise<Retired> =>
    asActivity(() =>
      heartbeating(async (tell, signal) => {
        const store = await deps.store(dataset)
        const retired: string[] = []
        for (const row of await versions(deps.pool, dataset)) {
          if (row.state !== 'sealed') continue
          if (await retireOne(deps, store, dataset, row.tag, 'its refresh failed')) retired.push(row.tag)
        }
        return { retired, ...(await sweep(deps, store, dataset, { tell, signal })) }
      }),
    )

/** Marks it in the registry, then in the pointer: from there on no flip, rollback or new lease takes it. False: it is needed. */
async function retireOne(deps: Deps, store: Store, dataset: string, tag: string, why: string): Promise<boolean> {
  try {
    await retireVersion(deps.pool, { dataset, tag, why })
    await changePointer(store.pointer, { kind: 'retire', tag }, { dataset })
    return true
  } catch (error) {
    if (!isSnapflipError(error, 'CONFLICT')) throw error
    deps.log.info({ dataset, version: tag, step: 'retire' }, `not retired: ${error.message}`)
    return false
  }
}

/**
 * Deletes what only retired, unleased versions hold, and generations that belong to no version. Leases are listed after the versions were marked
 * in the pointer: a reader that wrote its lease before the mark is seen here, one that came later sees the mark.
 */
async function sweep(
  deps: Deps,
  store: Store,
  dataset: string,
  { tell, signal }: { tell: (progress: string) => void; signal: AbortSignal },
): Promise<Pick<Retired, 'swept' | 'generations'>> {
  const rows = await versions(deps.pool, dataset)
  const retired = rows.filter((row) => row.state === 'retired')
  // Marked again here: a crash between registry and pointer may have left one unmarked.
  for (const { tag } of retired) await changePointer(store.pointer, { kind: 'retire', tag }, { dataset })
  const leased = new Set((await store.leases.list()).map((lease) => lease.tag))
  const going = retired.filter((row) => !leased.has(row.tag)).map((row) => row.tag)

  const staying = await manifestsOf(store, dataset, rows, (tag) => !going.includes(tag))
  const leaving = await manifestsOf(store, dataset, rows, (tag) => going.includes(tag))
  for (const tag of going) {
    signal.throwIfAborted()
    tell(`sweeping ${tag}`)
    const manifest = leaving.get(tag)
    if (manifest !== undefined) await sweepVersion(deps, store, manifest, [...staying.values()])
    await store.data.deleteManifest(tag)
    await swept(deps.pool, { dataset, tag })
    await changePointer(store.pointer, { kind: 'forget', tag }, { dataset })
  }
  return { swept: going, generations: await sweepGenerations(deps, store, dataset, [...staying.values()]) }
}

async function sweepVersion(deps: Deps, store: Store, manifest: Manifest, staying: readonly Manifest[]): Promise<void> {
  const dead = deadUnits(store.data, manifest, staying)
  try {
    for await (const batch of dead.units) await store.data.deleteUnits(batch)
  } catch (error) {
    // Pages that an interrupted sweep has deleted already; the rest goes with its generation.
    if (!isSnapflipError(error, 'CORRUPT')) throw error
    deps.log.warn({ err: error, dataset: manifest.dataset, version: manifest.tag }, 'swept before, in part')
  }
  for (const generation of dead.generations) await store.data.deleteGeneration(generation)
}

/** Generations of attempts that were given up. A paused worker may write to one again: it is then found again, by the store's journal. */
async function sweepGenerations(
  deps: Deps,
  store: Store,
  dataset: string,
  staying: readonly Manifest[],
): Promise<number> {
  const used = new Set(
    staying.flatMap((manifest) => [manifest.generation, ...manifest.sources.map((source) => source.generation)]),
  )
  const abandoned = await abandonedGenerations(deps.pool, dataset)
  const known = new Set((await store.data.generations()).map(({ generation }) => generation))
  let deleted = 0
  for (const { generation, store: url } of abandoned) {
    if (used.has(generation) || url !== store.url) continue
    await store.data.deleteGeneration(generation)
    known.delete(generation)
    await sweptGeneration(deps.pool, { dataset, generation, store: url })
    deleted++
  }
  return deleted
}

async function manifestsOf(
  store: Store,
  dataset: string,
  rows: readonly { tag: string; manifestSha256: string | null }[],
  wanted: (tag: string) => boolean,
): Promise<Map<string, Manifest>> {
  const shas = new Map(rows.map((row) => [row.tag, row.manifestSha256]))
  const manifests = new Map<string, Manifest>()
  for (const tag of await store.data.listManifests()) {
    const sha = shas.get(tag)
    if (!wanted(tag) || sha === undefined || sha === null) continue
    manifests.set(tag, await readManifest(store, dataset, { tag, manifest: sha }))
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
