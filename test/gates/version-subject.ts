import type { IndexEvidence } from '../../schemas/evidence.ts'
import type { IndexChange, VersionSubject } from '../../src/gates/user.ts'

const bytes = (value: unknown) => (value === undefined ? null : Buffer.from(JSON.stringify(value)))

/** A change as a store gives it. Undefined: it was not there, or is no more. */
export function change(index: string, key: string, before: unknown, after: unknown): IndexChange {
  return { index, key: Buffer.from(key), before: bytes(before), after: bytes(after) }
}

/** A version that changes this. `products` has keys of one part, `byPrice` of two. */
export function subjectOf(changes: readonly IndexChange[], more: Partial<VersionSubject> = {}): VersionSubject {
  const evidence: IndexEvidence = {
    build: 'incremental',
    reason: null,
    parentCount: 300,
    count: 300,
    parentBytes: 1,
    bytes: 1,
    inserted: 0,
    updated: changes.length,
    deleted: 0,
    sourceCount: null,
    notCompared: null,
    duplicates: { count: 0, sampleKeys: [] },
    formerShape: null,
    shape: 'a',
    blocksWritten: 1,
    bytesWritten: 1,
  }
  return {
    dataset: 'shop',
    tag: 'v20260518-02',
    digest: 'ab'.repeat(32),
    manifest: 'cd'.repeat(32),
    parent: 'v20260518-01',
    refreshId: '019aa63d-5a3e-7d53-9a51-7c3a4f1d2b10',
    evidence: { products: evidence },
    keyParts: (index) => (index === 'byPrice' ? 2 : 1),
    async *changes() {
      yield changes
    },
    signal: new AbortController().signal,
    ...more,
  }
}
