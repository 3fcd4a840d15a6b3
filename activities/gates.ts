import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { TableIndex } from '../schemas/config.ts'
import { type BuildEvidence, buildEvidenceSchema } from '../schemas/evidence.ts'
import type { Manifest } from '../schemas/manifest.ts'
import type { VersionRef } from '../schemas/pointer.ts'
import type { GateResult, Verdict } from '../schemas/refresh.ts'
import { judgementOf } from '../src/core/judgement.ts'
import type { GateSubject } from '../src/gates/gate.ts'
import { judge } from '../src/gates/index.ts'
import { gateResults } from '../src/registry/gate-results.ts'
import { goodVersions } from '../src/registry/good-versions.ts'
import { recordGates } from '../src/registry/record-gates.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { verifyIndex } from '../src/snapshot/verify.ts'
import type { Store } from '../src/stores/ports.ts'
import { type Deps, datasetOf } from './deps.ts'
import { measureDrift } from './drift.ts'
import { asActivity } from './failure.ts'
import { parentOf, readManifest } from './parent.ts'

export interface GatesRequest {
  refreshId: string
  dataset: string
  version: VersionRef
}

/** Judges the sealed version by every gate and keeps the evidence, pass or fail. */
export const gates =
  (deps: Deps) =>
  ({ refreshId, dataset, version }: GatesRequest): Promise<{ verdict: Verdict; summary: string }> =>
    asActivity(async (tell, signal) => {
      const definition = datasetOf(deps.config, dataset)
      const store = await deps.store(dataset)
      const manifest = await readManifest(store, dataset, version)
      const row = await versionRow(deps.pool, dataset, version.tag)
      // Judged by an attempt that did not live to say so: another sample is not drawn. Not what an earlier refresh left of it.
      const kept = row.manifestSha256 === version.manifest ? await gateResults(deps.pool, dataset, version.tag) : []
      const before = kept.filter((result) => result.refreshId === refreshId)
      if (before.length > 0) return toldOf(before)
      const evidence = buildEvidenceSchema.parse(row.counts)
      const folder = join(deps.workDir, refreshId, `drift-${randomUUID()}`)
      const subjects = subjectsOf(deps, store, { manifest, evidence, folder, signal })
      const results = await judge(subjects, definition.gates, (result) => {
        tell(`${result.gate} of ${result.index}: ${result.verdict}`)
        deps.log.info(
          {
            dataset,
            version: version.tag,
            step: 'gates',
            gate: result.gate,
            index: result.index,
            verdict: result.verdict,
          },
          result.summary,
        )
      })
      const judged = { refreshId, tag: version.tag, manifestSha256: version.manifest }
      return toldOf(await recordGates(deps.pool, judged, results))
    })

function toldOf(results: readonly GateResult[]): { verdict: Verdict; summary: string } {
  const { verdict, why } = judgementOf(results)
  return { verdict, summary: why === '' ? `${results.length} gates passed` : why }
}

function subjectsOf(
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
    return {
      index: name,
      kind: index.kind,
      evidence: seen,
      history: (limit) => goodVersions(deps.pool, { dataset, index: name, limit }),
      reread: async () => {
        // What an incremental build shares with its parent was read when it was written: only what this one wrote is read here.
        const former = index.build === 'full' ? undefined : (await parentOf(store, manifest))?.indexes[name]
        const since = former === undefined ? {} : { since: former }
        const read = await verifyIndex(store.data, { dataset, index: name, tag }, index, { signal, ...since })
        const faults = read.problems.map((problem) => problem.message)
        const shares = former === undefined ? null : (manifest.parent?.tag ?? null)
        return { count: read.count, blocks: read.blocks, bytes: read.bytes, faults, shares }
      },
      drift:
        definition === undefined || 'events' in definition
          ? null
          : (options) => measureDrift(deps, store, { manifest, name, definition, folder, signal, ...options }),
    }
  })
}
