import type { BuildEvidence } from '../schemas/evidence.ts'
import type { UserGate } from '../schemas/gates.ts'
import type { Manifest } from '../schemas/manifest.ts'
import type { VersionRef } from '../schemas/pointer.ts'
import type { GateResult } from '../schemas/refresh.ts'
import { BrokenGate, type Found, type IndexChange, judgeByUser, type VersionSubject } from '../src/gates/user.ts'
import { askFunction } from '../src/gates/user-function.ts'
import { askSql } from '../src/gates/user-sql.ts'
import { askWebhook } from '../src/gates/user-webhook.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'
import { changesOf } from './gate-subjects.ts'

/** Has the gates that the definition declares judge the version as a whole, one after another: each may be slow for somebody else. */
export async function judgeByUsers(
  deps: Deps,
  store: Store,
  gates: Readonly<Record<string, UserGate>>,
  candidate: {
    refreshId: string
    version: VersionRef
    manifest: Manifest
    evidence: BuildEvidence
    signal: AbortSignal
    tell: (progress: string) => void
  },
  done: (result: GateResult) => void,
): Promise<GateResult[]> {
  const { refreshId, version, manifest, evidence, signal, tell } = candidate
  const { dataset } = manifest
  const subject: VersionSubject = {
    dataset,
    tag: version.tag,
    digest: version.digest,
    manifest: version.manifest,
    parent: manifest.parent?.tag ?? null,
    refreshId,
    evidence,
    keyParts: (index) => manifest.indexes[index]?.keyParts ?? 1,
    changes: () => allChanges(store, manifest, signal),
    signal,
  }
  const ask = (name: string, gate: UserGate, begun: number): Promise<Found> => {
    if (gate.kind === 'sql') return askSql(gate, subject, () => deps.builder())
    if (gate.kind === 'webhook') return askWebhook(name, gate, subject, begun)
    const judge = deps.functions.get(`${dataset}/${name}`)
    if (judge === undefined)
      throw new BrokenGate('this worker was started without it: start it with the definition file')
    return askFunction(gate, subject, judge)
  }
  const results: GateResult[] = []
  for (const [name, gate] of Object.entries(gates)) {
    tell(`asking the gate ${name}`)
    const begun = Date.now()
    const result = await judgeByUser(name, gate, subject, async () => ask(name, gate, begun))
    done(result)
    results.push(result)
  }
  return results
}

async function* allChanges(store: Store, manifest: Manifest, signal: AbortSignal): AsyncGenerator<IndexChange[]> {
  for (const index of Object.keys(manifest.indexes))
    for await (const batch of changesOf(store, manifest, index, signal))
      yield batch.map((change) => ({ index, ...change }))
}
