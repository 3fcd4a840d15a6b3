import { type CounterReport, LATENCY_BOUNDS_MS } from '../../schemas/counters.ts'
import type { ComparisonPolicy } from '../../schemas/watch.ts'
import { COUNTED_BAD_MAX, capped } from './counters.ts'
import { byChance, type Proportion } from './exact-test.ts'
import { alphaOf } from './looks.ts'

/** In which ways a version can be worse for its readers. */
export const MEASURES = ['errors', 'misses', 'bad', 'slow'] as const
export type Measure = (typeof MEASURES)[number]

/** What one reader counted of one version: of each measure so many of so many. */
export type ReaderCounts = Record<Measure, Proportion>

/** The counts of a report, with no more weight than one reader may have. */
export function countsOf(report: CounterReport, slowMs: number): ReaderCounts {
  const { reads, misses, errors, bad, latencyMs } = capped(report)
  const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0)
  // Of the bucket that holds slowMs, and of those below it, nothing is known to be slower.
  const slowFrom = LATENCY_BOUNDS_MS.findIndex((bound) => bound >= slowMs) + 1
  return {
    errors: { hits: errors, of: reads + errors },
    misses: { hits: misses, of: reads },
    // Who met nothing of the version has no say: readers report of both sides, also of the one that they are not on.
    bad: { hits: bad, of: reads + errors + bad === 0 ? 0 : COUNTED_BAD_MAX },
    slow: { hits: slowFrom === 0 ? 0 : sum(latencyMs.slice(slowFrom)), of: sum(latencyMs) },
  }
}

/** Counts of the readers of each of two versions, one entry a reader. */
export interface Sides {
  /** The version that is judged. */
  judged: readonly ReaderCounts[]
  /** The one that it is compared with. */
  other: readonly ReaderCounts[]
}

/** What one measure says. */
export interface Finding {
  measure: Measure
  /** Shares of what all readers counted; null where they counted nothing. */
  share: number | null
  otherShare: number | null
  /** `worse`: by reads and by readers. `few`: by reads alone, so few readers have it badly. */
  verdict: 'fine' | 'few' | 'worse'
  /** Readers that have it worse, of those that counted enough to tell. */
  readers: Proportion
}

/** What one look at both sides says. */
export interface Comparison {
  /** Keys looked up, and readers, on the side that has fewer of them. */
  reads: number
  readers: number
  /** There are enough of both to say something against the version. */
  isEnough: boolean
  /** Which of the looks this is. */
  look: number
  findings: Finding[]
}

/**
 * Compares what readers counted of two versions. A version is worse when three things hold of one measure: its share is larger by more than the
 * declared margin; that is no chance; and most of its readers have it worse, two of them at the least. Reads of one reader are not independent
 * of each other (one application looks up what is not there a million times), so a test over reads alone would let a single reader vote a
 * version out; and since none weighs more than the cap, neither does a single one keep a bad version in.
 *
 * @param look which of the looks this is; it spends that look's part of alpha.
 */
export function compareReaders({ judged, other }: Sides, policy: ComparisonPolicy, look: number): Comparison {
  const { confidence, maxWorse } = policy
  const reads = Math.min(readsOf(judged), readsOf(other))
  const readers = Math.min(readersOf(judged), readersOf(other))
  const alpha = alphaOf(look, 1 - confidence) / MEASURES.length
  const isEnough = reads >= policy.minimumReads && readers >= policy.minimumReaders
  const findings = MEASURES.map((measure): Finding => {
    const here = pooled(judged, measure)
    const there = pooled(other, measure)
    const limit = (shareOf(there) ?? 1) + maxWorse[measure]
    const isLarger = isEnough && (shareOf(here) ?? 0) > limit && byChance(here, there) < alpha
    const told = toldBy(judged, measure, limit)
    const verdict = isLarger ? byReaders(told) : 'fine'
    return { measure, share: shareOf(here), otherShare: shareOf(there), verdict, readers: told }
  })
  return { reads, readers, isEnough, look, findings }
}

/** The same against shares that are too much whatever the version before was like; of the measures that have such a limit. */
export function beyondLimits(
  judged: readonly ReaderCounts[],
  policy: ComparisonPolicy,
  max: { readonly [measure in Measure]?: number | undefined },
  look: number,
): Comparison {
  const reads = readsOf(judged)
  const readers = readersOf(judged)
  const isEnough = reads >= policy.minimumReads && readers >= policy.minimumReaders
  const findings = MEASURES.flatMap((measure): Finding[] => {
    const limit = max[measure]
    if (limit === undefined) return []
    const share = shareOf(pooled(judged, measure))
    const told = toldBy(judged, measure, limit)
    const verdict = isEnough && share !== null && share > limit ? byReaders(told) : 'fine'
    return [{ measure, share, otherShare: null, verdict, readers: told }]
  })
  return { reads, readers, isEnough, look, findings }
}

/** A reader that counted fewer than these cannot tell a bad share from bad luck. */
const COUNTED_TO_TELL = 10

/** How many of the readers have more of it than the limit, of those that counted enough. */
function toldBy(judged: readonly ReaderCounts[], measure: Measure, limit: number): Proportion {
  const telling = judged.map((counts) => counts[measure]).filter(({ of }) => of >= COUNTED_TO_TELL)
  return { hits: telling.filter((each) => (shareOf(each) ?? 0) > limit).length, of: telling.length }
}

function byReaders({ hits, of }: Proportion): 'few' | 'worse' {
  return hits >= 2 && hits * 2 > of ? 'worse' : 'few'
}

function pooled(side: readonly ReaderCounts[], measure: Measure): Proportion {
  const counted = side.map((counts) => counts[measure])
  return counted.reduce((sum, { hits, of }) => ({ hits: sum.hits + hits, of: sum.of + of }), { hits: 0, of: 0 })
}

function shareOf({ hits, of }: Proportion): number | null {
  return of === 0 ? null : hits / of
}

/** With those that failed: a version that answers nothing has been asked even so. */
function readsOf(side: readonly ReaderCounts[]): number {
  return side.reduce((sum, { errors }) => sum + errors.of, 0)
}

function readersOf(side: readonly ReaderCounts[]): number {
  return side.filter(({ errors }) => errors.of > 0).length
}
