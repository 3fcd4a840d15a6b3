import type { Gate } from './gate.ts'

/**
 * Re-reads what was written: every block's checksum, count and sums against its pages, the totals against the manifest. The totals of an incremental
 * version must be those of its parent, less the blocks that were replaced, plus those that replace them.
 */
export const integrity: Gate = async (subject) => {
  const read = await subject.reread()
  const sound = read.faults.length === 0 && read.count === subject.evidence.count
  return {
    gate: 'integrity',
    index: subject.index,
    verdict: sound ? 'pass' : 'reject',
    summary: sound
      ? `${read.blocks} blocks read back as written${read.shares === null ? '' : `, the others shared with ${read.shares}`}: ${read.count} entries`
      : `${read.faults.length} faults; first: ${read.faults[0] ?? `${read.count} entries read, ${subject.evidence.count} sealed`}`,
    actual: { blocks: read.blocks, entries: read.count, bytes: read.bytes, faults: read.faults.length },
    limit: { entries: subject.evidence.count, faults: 0 },
    sampleKeys: [],
  }
}
