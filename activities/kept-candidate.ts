import type { Client } from 'pg'
import type { VersionRef } from '../schemas/pointer.ts'
import { preflight } from '../src/changelog/capture.ts'
import { resolveSource } from '../src/changelog/definition.ts'
import type { Source } from '../src/changelog/source.ts'
import { watermarkStillThere } from '../src/changelog/watermark.ts'
import { whyFull } from '../src/changelog/why-full.ts'
import { currentSnapshot, isEmptyWindow } from '../src/changelog/window.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { youngIndexes } from '../src/core/time-bound.ts'
import { keptCandidate, takeKept } from '../src/registry/kept-candidate.ts'
import { refOf } from '../src/registry/known-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import { type Deps, datasetOf } from './deps.ts'
import { type Parent, readManifest } from './parent.ts'

/**
 * What an earlier refresh sealed and could not flip to, because its window closed or nobody answered in time, where a build would make the same now: the same definition,
 * every change since its watermark captured, and there is none. It is this refresh's from here on. Null: there is no such version, and a build goes on from what is active.
 */
export async function keptStillNew(
  deps: Deps,
  store: Store,
  client: Client,
  { dataset, refreshId, parent }: { dataset: string; refreshId: string; parent: Parent | null },
): Promise<{ summary: string; version: VersionRef } | null> {
  const row = await keptCandidate(deps.pool, dataset)
  const ref = row === null ? null : refOf(row)
  if (row === null || ref === null || row.parent !== (parent?.ref.tag ?? null)) return null
  try {
    const manifest = await readManifest(store, dataset, ref)
    const sources: Source[] = []
    for (const [name, index] of Object.entries(datasetOf(deps.config, dataset).indexes))
      sources.push(await resolveSource(client, dataset, name, index))
    if (Object.keys(manifest.indexes).length !== sources.length) return null
    if (!(await watermarkStillThere(client, manifest.watermark))) return null
    const now = await currentSnapshot(client)
    const faults = new Map<string, string>()
    for (const table of await preflight(client, sources, manifest.watermark, now))
      if (!table.ok) faults.set(table.table, table.reason)
    const young = youngIndexes(datasetOf(deps.config, dataset), { manifest, freshAsOfAt: null }, new Date())
    const found = { lineageBroken: false, faults, asked: null, young }
    if (sources.some((source) => whyFull(source, manifest.indexes[source.index] ?? null, found) !== null)) return null
    const looked = sources.filter((source) => !young.has(source.index))
    if (!(await isEmptyWindow(client, looked, { from: manifest.watermark, to: now }))) return null
    if (!(await takeKept(deps.pool, { dataset, tag: ref.tag, refreshId }))) return null
    const why = row.state === 'rejected' ? 'which nobody approved in time' : 'kept when its window closed'
    return { summary: `${ref.tag}, ${why}: nothing changed since`, version: ref }
  } catch (error) {
    // The build that follows meets the same, and says so; or it does without this version.
    if (isSnapflipError(error, 'SOURCE_CHANGED') || isSnapflipError(error, 'LINEAGE_BROKEN')) return null
    if (isSnapflipError(error, 'CORRUPT') || isSnapflipError(error, 'VERSION_RETIRED')) return null
    throw error
  }
}
