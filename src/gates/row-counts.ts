import type { Gate } from './gate.ts'

/**
 * Counts must add up: on a full build to the source's own count at the watermark, which is another reading; on an incremental one to
 * parent + inserted − deleted, which is the build's own account of itself and finds only slips of its arithmetic. Drift looks further.
 */
export const rowCounts: Gate = async ({ index, evidence }) => {
  const expected = evidence.sourceCount ?? evidence.parentCount + evidence.inserted - evidence.deleted
  const adds = expected === evidence.count
  const whence =
    evidence.sourceCount === null ? 'the build itself (parent + inserted − deleted)' : 'the source at the watermark'
  return {
    gate: 'rowCounts',
    index,
    verdict: adds ? 'pass' : 'reject',
    summary: adds
      ? `${evidence.count} entries, as ${whence} says`
      : `${evidence.count} entries, but ${whence} says ${expected}`,
    actual: {
      entries: evidence.count,
      parent: evidence.parentCount,
      inserted: evidence.inserted,
      deleted: evidence.deleted,
    },
    limit: { entries: expected },
    sampleKeys: [],
  }
}
