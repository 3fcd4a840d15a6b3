import { z } from 'zod'
import { tagSchema } from './pointer.ts'

/** Upper bounds of the latency buckets, in milliseconds; one more bucket holds what took longer. */
export const LATENCY_BOUNDS_MS = [
  0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500,
] as const

/** Keys a report names for each index at most. */
export const RECENT_KEYS_MAX = 32

const count = z.int().nonnegative()

/**
 * What one reader counted on one side of one watch: whole totals, which take the place of its former ones. A watch is a flip (its version is
 * active) or a canary (its candidate is compared with the active version).
 */
export const counterReportSchema = z.object({
  /** The `flipId` of the pointer's last flip, or the `canaryId` of its candidate. */
  watchId: z.string().min(1).max(200),
  side: z.enum(['active', 'candidate']),
  tag: tagSchema,
  /** Drawn at random by each reader when it is opened; the same in every store it reports to. */
  readerId: z.string().min(1).max(200),
  /** Keys that were looked up: each key of a call for many is one. */
  reads: count,
  /** Of them, those that found nothing. */
  misses: count,
  /** Calls that this version could not answer: damaged, missing, of another shape, or without an index that the version before had. */
  errors: count,
  /** What the application said by `reportBad`. */
  bad: count,
  /** Of a sample of the calls, by LATENCY_BOUNDS_MS. */
  latencyMs: z.array(count).length(LATENCY_BOUNDS_MS.length + 1),
  /** Keys read in the hour before, by index, as text with a zero byte between parts; empty where the reader is told to keep them. */
  recentKeys: z.record(z.string(), z.array(z.string()).max(RECENT_KEYS_MAX)),
  /** By the reader's clock. */
  since: z.iso.datetime(),
  at: z.iso.datetime(),
})
export type CounterReport = z.infer<typeof counterReportSchema>
