import type { Gate } from './gate.ts'

/** Re-reads what was written: every block's checksum, count and sums against its pages, the totals against the manifest. */
export const integrity: Gate = async (subject) => {
  const read = await subject.reread()
  const sound = read.faults.length === 0 && read.count === subject.evidence.count
  return {
    gate: 'integrity',
    index: subject.index,
    verdict: sound ? 'pass' : 'reject',
    summary: sound
      ? `${read.blocks} blocks with ${read.count} entries read back as written`
      : `${read.faults.length} faults; first: ${read.faults[0] ?? `${read.count} entries read, ${subject.evidence.count} sealed`}`,
    actual: { blocks: read.blocks, entries: read.count, bytes: read.bytes, faults: read.faults.length },
    limit: { entries: subject.evidence.count, faults: 0 },
    sampleKeys: [],
  }
}
