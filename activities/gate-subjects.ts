import type { DatasetDefinition, TableIndex } from '../schemas/config.ts'
import type { BuildEvidence } from '../schemas/evidence.ts'
import { SAMPLE_ENTRIES } from '../schemas/gates.ts'
import type { IndexManifest, Manifest } from '../schemas/manifest.ts'
import { type ColumnShares, columnShares } from '../src/gates/column-shares.ts'
import type { GateSubject } from '../src/gates/gate.ts'
import { gateResults } from '../src/registry/gate-results.ts'
import { goodVersions } from '../src/registry/good-versions.ts'
import { type Change, readChanges } from '../src/snapshot/changes.ts'
import { type KeyAndValue, missingKeys, readEntries, sampleEntries } from '../src/snapshot/read.ts'
import { verifyIndex } from '../src/snapshot/verify.ts'
import type { Store } from '../src/stores/ports.ts'
import { type Deps, datasetOf } from './deps.ts'
import { measureDrift } from './drift.ts'
import { parentOf } from './parent.ts'

/** The indexes of a sealed version, and how a gate looks closer. */
export function subjectsOf(
  deps: Deps,
  store: Store,
  {
    manifest,
    evidence,
    folder,
    signal,
  }: { manifest: Manifest; evidence: BuildEvidence; folder: string; signal: AbortSignal },
): GateSubject[] {
  const { dataset, tag } = manifest
  return Object.entries(evidence).map(([name, seen]): GateSubject => {
    const index = manifest.indexes[name]
    if (index === undefined) throw new Error(`the evidence of ${tag} names index ${name}, which its manifest lacks`)
    const definition = datasetOf(deps.config, dataset).indexes[name] as TableIndex | { events: true } | undefined
    const where = { dataset, index: name, tag }
    const entries = (sample?: number) =>
      sample === undefined
        ? readEntries(store.data, { where, index }, signal)
        : sampleEntries(store.data, { where, index }, sample)
    return {
      entries,
      missing: (keys) => missingKeys(store.data, { where, index }, keys),
      changes: () => changesOf(store, manifest, name, signal),
      columns: columnsOf(datasetOf(deps.config, dataset), name, index, entries),
      index: name,
      kind: index.kind,
      evidence: seen,
      history: (limit) => goodVersions(deps.pool, { dataset, index: name, limit }),
      reread: async () => {
        // What an incremental build shares with its parent was read when it was written: only what this one wrote is read here.
        const former = index.build === 'full' ? undefined : (await parentOf(store, manifest))?.indexes[name]
        const since = former === undefined ? {} : { since: former }
        const read = await verifyIndex(store.data, where, index, { signal, ...since })
        const faults = read.problems.map((problem) => problem.message)
        const shares = former === undefined ? null : (manifest.parent?.tag ?? null)
        return { count: read.count, blocks: read.blocks, bytes: read.bytes, faults, shares }
      },
      comparedAt: () => comparedAt(deps, manifest, name),
      drift:
        definition === undefined || 'events' in definition
          ? null
          : (options) => measureDrift(deps, store, { manifest, name, definition, folder, signal, ...options }),
    }
  })
}

/** Handed on from version to version, so that each looks at its parent's evidence alone. */
async function comparedAt(deps: Deps, { dataset, parent }: Manifest, name: string): Promise<Date | null> {
  const results = parent === null ? [] : await gateResults(deps.pool, dataset, parent.tag)
  const drift = results.find(({ gate, index }) => gate === 'drift' && index === name)
  if (drift === undefined || drift.verdict !== 'pass') return null
  if (drift.actual.comparedAt !== undefined) return new Date(String(drift.actual.comparedAt))
  return drift.actual.compared === undefined ? null : drift.at
}

/** What a version's index has otherwise than its parent's. */
export async function* changesOf(
  store: Store,
  manifest: Manifest,
  name: string,
  signal: AbortSignal,
): AsyncGenerator<Change[]> {
  const { dataset, tag } = manifest
  const index = manifest.indexes[name]
  if (index === undefined || index.build === 'unchanged') return
  const parent = await parentOf(store, manifest)
  const former = parent?.indexes[name]
  const before =
    parent === null || former === undefined ? null : { where: { dataset, index: name, tag: parent.tag }, index: former }
  yield* readChanges(store.data, before, { where: { dataset, index: name, tag }, index }, signal)
}

/** Counted when the first gate asks. */
function columnsOf(
  { gates, indexes }: DatasetDefinition,
  name: string,
  { count }: IndexManifest,
  entries: (sample?: number) => AsyncIterable<readonly KeyAndValue[]>,
): GateSubject['columns'] {
  const columns = Object.keys(gates.columns?.[name] ?? {})
  if (columns.length === 0) return null
  const declared = indexes[name]
  const whole =
    declared !== undefined && 'value' in declared && typeof declared.value === 'string' ? declared.value : null
  const sample = gates.columnSample ?? SAMPLE_ENTRIES
  let counted: Promise<ColumnShares> | undefined
  return () => {
    counted ??= columnShares(sample < count ? entries(sample) : entries(), { columns, whole, count })
    return counted
  }
}
