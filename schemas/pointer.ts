import { z } from 'zod'

/** Tag of a version: `vYYYYMMDD-NN` (UTC day of the build, NN counting on within the day). Order is `ordinal`, never the text. */
export const tagSchema = z.string().regex(/^v\d{8}-\d{2,}$/, 'expected a version tag such as v20260518-01')

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/)

/** What names a version beyond doubt: its tag, its place in the registry's order, its content and its bytes. */
export const versionRefSchema = z.object({
  tag: tagSchema,
  /** Counts up by one for each version of a dataset; the registry's order. */
  ordinal: z.int().positive(),
  /** SHA-256 (hex) over the content sums of every index: equal content, equal digest. */
  digest: sha256Schema,
  /** SHA-256 (hex) of the manifest's bytes in this store: the Merkle root of all that the version holds. */
  manifest: sha256Schema,
})
export type VersionRef = z.infer<typeof versionRefSchema>

/** Fencing number of a flip, compared in this order; never issued twice. */
export const epochSchema = z.object({ registry: z.int().nonnegative(), breakGlass: z.int().nonnegative() })
export type Epoch = z.infer<typeof epochSchema>

export const holdSchema = z.object({ by: z.string(), reason: z.string(), at: z.iso.datetime() })
export type Hold = z.infer<typeof holdSchema>

/** The watermark, and its time, up to which the active version is known to be current. */
export const freshAsOfSchema = z.object({ snapshot: z.string(), at: z.iso.datetime() })
export type FreshAsOf = z.infer<typeof freshAsOfSchema>

/** How many flips the pointer remembers. */
export const RECENT_FLIPS_MAX = 16

/** The one mutable thing in a store. Written whole, by compare-and-set alone. */
export const pointerSchema = z.object({
  format: z.literal(1),
  dataset: z.string(),
  active: versionRefSchema.nullable(),
  /** The version a rollback without a name goes to: the one that was active before, unless that one is quarantined. */
  previous: versionRefSchema.nullable(),
  epoch: epochSchema,
  flipId: z.string().nullable(),
  /** The last flips made, newest first: a flip whose reply was lost is found here even when another one came after it. */
  flips: z.array(z.object({ flipId: z.string(), tag: tagSchema })).max(RECENT_FLIPS_MAX),
  hold: holdSchema.nullable(),
  /** Tags that may never be flipped to. */
  quarantined: z.array(tagSchema),
  /** Tags whose blocks may go as soon as no lease names them; no flip, rollback or new lease takes them. */
  retired: z.array(tagSchema),
  freshAsOf: freshAsOfSchema.nullable(),
})
export type Pointer = z.infer<typeof pointerSchema>
