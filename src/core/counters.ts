import type { CounterReport } from '../../schemas/counters.ts'

/** How long a store keeps a report: longer than any pause of a reader that still counts, shorter than what flips every few seconds piles up. */
export const COUNTERS_KEPT_MS = 3_600_000
/** Reads of one reader that count on one side of one watch: a busy one weighs no more than this, whatever it read. */
export const COUNTED_READS_MAX = 10_000
/** `reportBad` calls of one reader that count: its application is one voice, however loud. */
export const COUNTED_BAD_MAX = 10

/**
 * A report with no more weight than one reader may have: above the limits its counts shrink, and what part of the reads missed or failed
 * stays. Applied by readers to what they send and by judges to what they find, since a store takes any report; twice is as once.
 */
export function capped(report: CounterReport): CounterReport {
  const { reads, misses, errors, latencyMs } = report
  // What failed was not counted as read; what counts more than reads and failures together was made up.
  const calls = reads + errors
  const share = calls > COUNTED_READS_MAX ? COUNTED_READS_MAX / calls : 1
  const shrunk = (count: number) => Math.floor(count * share)
  const samples = latencyMs.reduce((sum, count) => sum + count, 0)
  const sampleShare = Math.min(share, samples > COUNTED_READS_MAX ? COUNTED_READS_MAX / samples : 1)
  return {
    ...report,
    reads: shrunk(reads),
    misses: shrunk(Math.min(misses, reads)),
    errors: shrunk(errors),
    bad: Math.min(report.bad, COUNTED_BAD_MAX),
    latencyMs: latencyMs.map((count) => Math.floor(count * sampleShare)),
  }
}
