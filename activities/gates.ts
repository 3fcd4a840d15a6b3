import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { buildEvidenceSchema } from '../schemas/evidence.ts'
import type { VersionRef } from '../schemas/pointer.ts'
import type { GateResult, Verdict } from '../schemas/refresh.ts'
import { isAgainst, judgementOf } from '../src/core/judgement.ts'
import { isSound, judge } from '../src/gates/index.ts'
import { gateResults } from '../src/registry/gate-results.ts'
import { recordGates } from '../src/registry/record-gates.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { type Deps, datasetOf } from './deps.ts'
import { asActivity } from './failure.ts'
import { subjectsOf } from './gate-subjects.ts'
import { readManifest } from './parent.ts'
import { underPolicy } from './under-policy.ts'
import { judgeByUsers } from './user-gates.ts'

export interface GatesRequest {
  refreshId: string
  dataset: string
  version: VersionRef
}

export interface Judged {
  verdict: Verdict
  summary: string
  /** Why the active version is to be taken back too, when a gate says so. */
  rollBack?: string
}

/** Judges the sealed version by every gate and keeps the evidence, pass or fail. */
export const gates =
  (own: Deps) =>
  ({ refreshId, dataset, version }: GatesRequest): Promise<Judged> =>
    asActivity(async (tell, signal) => {
      const deps = await underPolicy(own, { dataset, refreshId })
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
      const done = (result: GateResult) => {
        tell(`${result.gate}${result.index === null ? '' : ` of ${result.index}`}: ${result.verdict}`)
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
      }
      const results = await judge(subjects, definition.gates, done)
      const candidate = { refreshId, version, manifest, evidence, signal, tell }
      // What does not read back is not shown to anybody.
      if (isSound(results))
        results.push(...(await judgeByUsers(deps, store, definition.gates.user ?? {}, candidate, done)))
      const judged = { refreshId, tag: version.tag, manifestSha256: version.manifest }
      return toldOf(await recordGates(deps.pool, judged, results))
    })

function toldOf(results: readonly GateResult[]): Judged {
  const { verdict, why } = judgementOf(results)
  const back = results.find((result) => isAgainst(result) && result.actual.decision === 'rollback')
  return {
    verdict,
    summary: why === '' ? `${results.length} gates passed` : why,
    ...(back === undefined ? {} : { rollBack: `${back.gate}: ${back.summary}` }),
  }
}
