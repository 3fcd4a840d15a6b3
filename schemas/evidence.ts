import { z } from 'zod'

/** What a build saw of one index, kept with the version in the registry: the gates' evidence, and `show`'s. */
export const indexEvidenceSchema = z.object({
  build: z.enum(['full', 'incremental', 'unchanged']),
  reason: z.string().nullable(),
  /** Entries before (0 without a parent) and after. */
  parentCount: z.int().nonnegative(),
  count: z.int().nonnegative(),
  /** Of all entries before compression, before and after; null in evidence from before it was kept. */
  parentBytes: z.int().nonnegative().nullable().default(null),
  bytes: z.int().nonnegative().nullable().default(null),
  /** Against the parent. `updated` is null where the shape changed: every value did. */
  inserted: z.int().nonnegative(),
  updated: z.int().nonnegative().nullable(),
  deleted: z.int().nonnegative(),
  /** The source's own count at the watermark, on full builds; null where it was not asked. */
  sourceCount: z.int().nonnegative().nullable(),
  duplicates: z.object({ count: z.int().nonnegative(), sampleKeys: z.array(z.string()) }),
  /** Why the numbers above are only the difference of the two counts: what was there before cannot be read. Null when they are exact. */
  notCompared: z.string().nullable().default(null),
  /** The shape before, when it differs. */
  formerShape: z.string().nullable(),
  shape: z.string(),
  blocksWritten: z.int().nonnegative(),
  bytesWritten: z.int().nonnegative(),
})
export type IndexEvidence = z.infer<typeof indexEvidenceSchema>

export const buildEvidenceSchema = z.record(z.string(), indexEvidenceSchema)
export type BuildEvidence = z.infer<typeof buildEvidenceSchema>
