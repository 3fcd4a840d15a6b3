import { z } from 'zod'

/** A part of all reads (or readers): 0.01 is one in a hundred. */
const share = z.number().min(0).max(1)
/** Of all readers that a canary takes: some, never all. */
const canaryShare = z.number().gt(0).lt(1)

/** How much larger than before a share of reads may be, in shares: misses 0.01 lets 3 % become 4 %. */
const worseSchema = z.strictObject({
  /** Calls that the version could not answer. */
  errors: share.default(0.001),
  /** Keys that were looked up and found nothing. */
  misses: share.default(0.01),
  /** What the application said by `reportBad`: each reader has ten voices. */
  bad: share.default(0.2),
  /** Calls that took longer than `slowMs`. */
  slow: share.default(0.05),
})

/** What is asked of readers' counters, by canary and bake alike. */
const comparison = {
  /** Keys looked up on each side, and readers that looked up some of them, below which nothing is said against the version. */
  minimumReads: z.int().positive().default(1000),
  /** Two at the least: no single reader votes a version out. */
  minimumReaders: z.int().min(2).default(2),
  /** That a version which is no worse is let pass, over all looks and all measures together. */
  confidence: z.number().min(0.8).lt(1).default(0.99),
  maxWorse: worseSchema.prefault({}),
  /** Counted by buckets: the next of 25, 50, 100, 250, 500, 1000, 2500 counts. */
  slowMs: z.number().positive().default(50),
}

const HOUR_MS = 3_600_000

/** A share of the readers on the candidate, compared with those on the active version, before the flip. */
export const canaryPolicySchema = z
  .strictObject({
    share: canaryShare.default(0.05),
    /** Larger shares that follow, each for an equal part of the time. */
    ramp: z.array(canaryShare).max(8).default([]),
    /** How long; it ends sooner only for a candidate that is clearly worse, or that nobody reads. */
    forMs: z
      .int()
      .min(1_000)
      .max(12 * HOUR_MS)
      .default(600_000),
    ...comparison,
    /** Of a candidate that is worse. */
    verdict: z.enum(['warn', 'hold', 'reject']).default('reject'),
    /** Where readers are too few: this many keys of each index are read on both versions, recently read ones first. */
    probe: z
      .strictObject({
        keys: z.int().positive().max(100_000).default(1000),
        /** Ask no readers at all. */
        only: z.boolean().default(false),
      })
      .prefault({}),
  })
  .refine(
    ({ share, ramp }) => ramp.every((next, n) => next > (n === 0 ? share : (ramp[n - 1] as number))),
    'expected a `ramp` of growing shares, above `share`',
  )
export type CanaryPolicy = z.infer<typeof canaryPolicySchema>

/** The watch over a version after it became active. */
export const bakePolicySchema = z.strictObject({
  forMs: z
    .int()
    .min(1_000)
    .max(24 * HOUR_MS)
    .default(600_000),
  ...comparison,
  /** Shares that are too much whatever they were before; the only ones asked of a first version. */
  max: z
    .strictObject({
      errors: share.default(0.05),
      misses: share.optional(),
      bad: share.default(0.5),
      slow: share.optional(),
    })
    .prefault({}),
  /** Compares samples of source and version, as the gate does. */
  drift: z
    .strictObject({
      /** Entries of each index; 0 compares none. */
      sample: z.int().nonnegative().default(500),
      everyMs: z.int().min(1_000).default(60_000),
      /** Of the keys compared, those that may differ. */
      maxShare: share.default(0),
    })
    .prefault({}),
  /** `wait`: the refresh ends with the bake, and the next one waits for it. `end`: it ends before, and the next flip cuts the bake short. */
  whileBaking: z.enum(['wait', 'end']).default('wait'),
})
export type BakePolicy = z.infer<typeof bakePolicySchema>

/** What both ask of readers' counters. */
export type ComparisonPolicy = Pick<CanaryPolicy & BakePolicy, keyof typeof comparison>
