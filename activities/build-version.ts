import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Context } from '@temporalio/activity'
import { v7 as uuidv7 } from 'uuid'
import type { IndexManifest, Watermark } from '../schemas/manifest.ts'
import { countSource } from '../src/changelog/scan.ts'
import { inWatermark } from '../src/changelog/watermark.ts'
import { NOT_CAPTURED } from '../src/changelog/why-full.ts'
import { isEmptyWindow } from '../src/changelog/window.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { lastReadAt } from '../src/core/time-bound.ts'
import { beginGeneration } from '../src/registry/begin-generation.ts'
import { openRefreshOf } from '../src/registry/open-refresh-of.ts'
import { recordEvent } from '../src/registry/record.ts'
import { standingRefusal } from '../src/registry/standing-refusal.ts'
import { hashedKey } from '../src/snapshot/hashed-key.ts'
import { type MergeResult, mergeRuns } from '../src/snapshot/merge.ts'
import { planRepack } from '../src/snapshot/repack.ts'
import { RunMemory } from '../src/snapshot/run-memory.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { BuildRequest, BuildResult } from './build.ts'
import { type BuiltIndex, changesOfFullBuild, evidenceOf, summaryOf } from './built-index.ts'
import { type Deps, datasetOf } from './deps.ts'
import { type IndexPlan, planIndexes } from './index-plans.ts'
import { keptStillNew } from './kept-candidate.ts'
import { type Parent, withParent } from './parent.ts'
import { repair } from './reconcile.ts'
import { isAsRefused, isWhatWasRefused, refusedAgain, waivedVersion } from './refused-before.ts'
import { IndexScan, type Workplace } from './scan-index.ts'
import { seal, sealedBefore } from './seal.ts'
import { throughRestarts } from './through-restarts.ts'
import { attemptFolder, removeFinishedWork } from './work-folder.ts'

/**
 * Builds the next version of a dataset and seals it: reads what changed since the parent (or the source, index by index, where that cannot be
 * relied on), merges it into blocks, and writes the manifest. Every attempt writes under generations of its own.
 *
 * @throws SnapflipError CHANGE_MISSED and SOURCE_CHANGED call for the same build in full, SUPERSEDED when another attempt or run took over.
 */
export async function buildVersion(
  deps: Deps,
  request: BuildRequest,
  { tell, signal }: { tell: (progress: string) => void; signal: AbortSignal },
): Promise<BuildResult> {
  const { dataset, refreshId, rebuildReason } = request
  const definition = datasetOf(deps.config, dataset)
  const store = await deps.store(dataset)
  await removeFinishedWork(deps)
  const open = await openRefreshOf(deps.pool, dataset)
  const asked = open?.refreshId === refreshId && open.full ? (open.reason ?? 'asked for') : null

  const before = await sealedBefore(deps, store, request)
  if (before !== null && 'version' in before)
    return { changed: true, summary: 'sealed by an earlier attempt', version: before.version }
  const inFull = rebuildReason !== null || asked !== null
  const waived = inFull ? null : await waivedVersion(deps, request)
  if (waived !== null) return { changed: true, ...waived }
  const refusal = inFull ? null : await standingRefusal(deps.pool, { dataset, parent: request.from.tag })

  const kind = rebuildReason === null ? 'first' : 'rebuild'
  const folder = await attemptFolder(deps, { refreshId, kind, attempt: Context.current().info.attempt })
  const place: Workplace = { dataset, folder, memory: new RunMemory(), tell, signal }
  const scans: IndexScan[] = []
  const client = await deps.builder()
  try {
    return await withParent(store, { ...request, inFull }, async (parent) => {
      const kept = inFull ? null : await keptStillNew(deps, store, client, { dataset, refreshId, parent })
      if (kept !== null) return { changed: true, ...kept }
      const { indexes, lineageBroken, attached } = await planIndexes(client, {
        dataset,
        definition,
        parent,
        fullReason: rebuildReason ?? (asked === null ? null : `full build: ${asked}`),
        signal,
      })
      if (lineageBroken) await tellOfLineage(deps, dataset, parent)
      if (attached.length > 0) {
        const detail = { tables: attached, refreshId }
        await recordEvent(deps.pool, { dataset, actor: null, kind: 'capture.attached', detail })
      }

      for (const plan of indexes) if (!plan.young) scans.push(await IndexScan.open(client, plan, place))
      for (const scan of scans) await scan.beforeWatermark(client, () => deps.builder())
      const sources = indexes.map((plan) => plan.source)
      const counts = new Map<string, number>()
      const watermark = await inWatermark(client, sources, 'version', async (at) => {
        for (const scan of scans) {
          await scan.atWatermark(client)
          if (scan.plan.fullReason !== null) counts.set(scan.plan.name, await countSource(client, scan.plan.source))
        }
        return at
      })
      const sameIndexes = parent !== null && Object.keys(parent.manifest.indexes).length === indexes.length
      if (parent !== null && sameIndexes && indexes.every((plan) => plan.fullReason === null)) {
        const window = { from: parent.manifest.watermark, to: watermark.snapshot }
        const looked = indexes.filter((plan) => !plan.young).map((plan) => plan.source)
        if (await isEmptyWindow(client, looked, window))
          return nothingNew(deps, store, place, { parent, watermark, indexes })
      }
      if (refusal !== null && (await isAsRefused(client, sources, refusal, watermark.snapshot)))
        return refusedAgain(request, refusal)
      for (const scan of scans) await scan.afterWatermark(client, parent?.manifest.watermark ?? null, watermark)

      place.memory.dropSpare()
      const built: BuiltIndex[] = []
      for (const plan of indexes) {
        const scan = scans.find((scan) => scan.plan === plan)
        if (scan === undefined) built.push(carriedByAge(plan, parent as Parent))
        else built.push(await mergeIndex(deps, store, request, { scan, parent, place, counts }))
      }
      // A full build of a captured index renews the watermark that later windows start at, whatever it found.
      const renews = (index: BuiltIndex) => index.plan.fullReason !== null && isCaptured(index.plan)
      if (parent !== null && sameIndexes && built.every((index) => index.generation === null && !renews(index))) {
        return nothingNew(deps, store, place, { parent, watermark, indexes })
      }
      if (refusal !== null && isWhatWasRefused(built, refusal)) {
        for (const { generation } of built) if (generation !== null) await store.data.deleteGeneration(generation)
        return refusedAgain(request, refusal)
      }
      const version = await seal(deps, store, request, {
        parent,
        watermark,
        built,
        replaces: before?.unwritten ?? null,
      })
      await rm(join(deps.workDir, refreshId), { recursive: true, force: true })
      return { changed: true, summary: summaryOf(built), version }
    })
  } finally {
    await Promise.allSettled(scans.map((scan) => scan.runs.close()))
    await client.end()
  }
}

function isCaptured(plan: IndexPlan): boolean {
  return plan.source.kind === 'events' || plan.source.captured
}

/** What was read lately enough goes on as it is, and keeps when that was. */
function carriedByAge(plan: IndexPlan, parent: Parent): BuiltIndex {
  const readAt = lastReadAt(parent, plan.name).toISOString()
  const index = { ...(plan.former as IndexManifest), build: 'unchanged' as const, reason: null, readAt }
  return { plan, manifest: index, sources: [], generation: null, evidence: evidenceOf(plan, index, null, null) }
}

const readLast = (parent: Parent, index: string) =>
  `its source was read at ${lastReadAt(parent, index).toISOString()}, lately enough`

async function mergeIndex(
  deps: Deps,
  store: Store,
  request: BuildRequest,
  {
    scan,
    parent,
    place,
    counts,
  }: { scan: IndexScan; parent: Parent | null; place: Workplace; counts: Map<string, number> },
): Promise<BuiltIndex> {
  const { plan, runs } = scan
  const { dataset, refreshId } = request
  const { former, fullReason } = plan
  const base = fullReason === null ? former : null
  const shape = plan.source.shape
  const carried = (): BuiltIndex => {
    const { readAt: _read, ...kept } = former as IndexManifest
    const index = { ...kept, build: 'unchanged' as const, reason: null }
    return { plan, manifest: index, sources: [], generation: null, evidence: evidenceOf(plan, index, null, null) }
  }
  if (base !== null && runs.entries === 0) return carried()

  const generation = uuidv7().replaceAll('-', '')
  const attempt = Context.current().info.attempt
  await beginGeneration(deps.pool, {
    dataset,
    refreshId,
    index: plan.name,
    attempt,
    generation,
    store: store.url,
    parent: parent?.ref.tag ?? null,
  })
  const writer = await store.data.begin(generation)
  const merged = await mergeRuns({
    where: { dataset, index: plan.name },
    runs,
    data: store.data,
    writer,
    index: {
      kind: plan.kind,
      keyParts: plan.source.kind === 'table' ? plan.source.keyParts : 0,
      seed: scan.seed,
      shape,
      reason: fullReason,
    },
    ...(base === null || parent === null
      ? {}
      : { parent: base, repack: planRepack(store.data.layout, parent.manifest) }),
    signal: place.signal,
    onProgress: ({ entriesDone }) =>
      place.tell(`${dataset}.${plan.name}: merging, ${entriesDone} of ${runs.entries} entries`),
  })
  await runs.close()
  if (merged.missed.count > 0) throw await changeMissed(deps, dataset, plan, parent, merged.missed)
  await writer.finish()
  if (!merged.changed || isSameUncaptured(plan, merged.index)) {
    await store.data.deleteGeneration(generation)
    return carried()
  }
  const evidence = {
    ...evidenceOf(plan, merged.index, merged, counts.get(plan.name) ?? null),
    ...(await changesOfFullBuild(store, dataset, plan, merged.index, place.signal)),
    ...(parent === null && request.from.tag !== null
      ? { notCompared: `${request.from.tag} is quarantined or cannot be read` }
      : {}),
  }
  return { plan, manifest: merged.index, sources: merged.sources, generation, evidence }
}

/**
 * A source without capture is read in full each time; when it holds what the parent holds, the parent's blocks serve. Not in a full build that
 * was asked for: the parent's blocks may be what is wrong.
 */
function isSameUncaptured(plan: IndexPlan, index: IndexManifest): boolean {
  const { former } = plan
  return (
    plan.fullReason === NOT_CAPTURED &&
    former !== null &&
    former.kind === index.kind &&
    former.shape === index.shape &&
    former.count === index.count &&
    former.sums.join() === index.sums.join()
  )
}

async function nothingNew(
  deps: Deps,
  store: Store,
  place: Workplace,
  { parent, watermark, indexes }: { parent: Parent; watermark: Watermark; indexes: readonly IndexPlan[] },
): Promise<BuildResult> {
  const freshAsOf = { snapshot: watermark.snapshot, at: watermark.at }
  const { dataset } = place
  const young = indexes.filter((plan) => plan.young).map(({ name }) => `${name}: ${readLast(parent, name)}`)
  // What was not looked at is not known to be current.
  if (young.length > 0) return { changed: false, summary: `nothing new since ${parent.ref.tag}; ${young.join('; ')}` }
  const ttl = datasetOf(deps.config, dataset).ttl ?? null
  await throughRestarts(
    () => changePointer(store.pointer, { kind: 'fresh', expectedTag: parent.ref.tag, freshAsOf, ttl }, { dataset }),
    () => repair(deps, store, place),
  )
  return { changed: false, summary: `nothing new since ${parent.ref.tag}; it is current as of ${watermark.at}` }
}

async function changeMissed(
  deps: Deps,
  dataset: string,
  plan: IndexPlan,
  parent: Parent | null,
  missed: MergeResult['missed'],
): Promise<SnapflipError> {
  const keys = missed.keys.map(hashedKey)
  const error = new SnapflipError(
    'CHANGE_MISSED',
    `${missed.count} changes of ${dataset}.${plan.name} remove entries that the parent does not have (keys ${keys.join(', ')}): a change was missed. The index is built in full.`,
    { dataset, index: plan.name, count: missed.count, keys },
  )
  const version = parent?.ref.tag ?? null
  await deps.alert({
    kind: 'CHANGE_MISSED',
    dataset,
    version,
    // Until another version is built upon, each refresh meets the same.
    incident: `${version}/${plan.name}`,
    summary: error.message,
    evidence: { index: plan.name, count: missed.count, keys },
  })
  return error
}

async function tellOfLineage(deps: Deps, dataset: string, parent: Parent | null): Promise<void> {
  const watermark = parent?.manifest.watermark.id ?? null
  const version = parent?.ref.tag ?? null
  const summary = `the watermark of ${version} is not in this database's history; ${dataset} is built in full`
  const incident = `watermark ${watermark}`
  await deps.alert({ kind: 'LINEAGE_BROKEN', dataset, version, incident, summary, evidence: { watermark } })
}
