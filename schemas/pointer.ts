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
/** A version beyond doubt: its tag alone could be another registry's. */
export type VersionRef = z.infer<typeof versionRefSchema>

/** Fencing number of a flip, compared in this order; never issued twice. */
export const epochSchema = z.object({ registry: z.int().nonnegative(), breakGlass: z.int().nonnegative() })
/** Fencing number of a flip: `registry` first, then `breakGlass`. */
export type Epoch = z.infer<typeof epochSchema>

export const holdSchema = z.object({ by: z.string(), reason: z.string(), at: z.iso.datetime() })
export type Hold = z.infer<typeof holdSchema>

/** The watermark, and its time, up to which the active version is known to be current. */
export const freshAsOfSchema = z.object({ snapshot: z.string(), at: z.iso.datetime() })
export type FreshAsOf = z.infer<typeof freshAsOfSchema>

/** A version that a share of the readers answers from, to be compared with the active one. */
export const candidateSchema = z.object({
  version: versionRefSchema,
  /** Of all readers, by a sticky hash with the salt: none of them changes sides while the canary lasts, save towards it in a ramp. */
  share: z.number().gt(0).lt(1),
  salt: z.string().min(1),
  canaryId: z.string().min(1),
  since: z.iso.datetime(),
})

/** An operator's: readers stay on this version until then by their own clock, whatever is flipped beneath. */
export const pinSchema = z.object({
  version: versionRefSchema,
  until: z.iso.datetime(),
  by: z.string(),
  reason: z.string(),
})
export type Pin = z.infer<typeof pinSchema>

/** The watch over the version that this flip made active. */
export const bakeSchema = z.object({ flipId: z.string(), until: z.iso.datetime() })

/** What readers do with a version that is known to be current only up to longer ago than its budget. It decides what is told, never what is right. */
export const ttlSchema = z.object({ budgetMs: z.int().positive(), beyond: z.enum(['mark', 'refuse']) })
export type Ttl = z.infer<typeof ttlSchema>

/** Head of the registry's history as of a flip: a history that does not lead there was edited or cut. */
export const anchorSchema = z.object({ seq: z.int().positive(), hash: sha256Schema })
export type Anchor = z.infer<typeof anchorSchema>

/**
 * An anchor that the history does not lead to. `acceptedBy`: a person knows why, by that entry; from there on the entry stands for what the anchor
 * proved, since its hash covers all before it.
 */
export const contradictedSchema = anchorSchema.extend({ acceptedBy: anchorSchema.optional() })
export type Contradicted = z.infer<typeof contradictedSchema>

/** Of anchors that flips found contradicted: the first tell most, and a history is not broken often. */
export const CONTRADICTED_MAX = 8

/** History entry of a rollback that was made without the registry, kept here until the registry has it. */
export const breakGlassEntrySchema = z.object({
  flipId: z.string(),
  epoch: epochSchema,
  from: tagSchema,
  to: tagSchema,
  by: z.string(),
  reason: z.string(),
  at: z.iso.datetime(),
  /** It also bound the pointer to a server that had restarted or failed over: writes from before may be undone. */
  rebound: z.boolean(),
})
export type BreakGlassEntry = z.infer<typeof breakGlassEntrySchema>

/** How many flips the pointer remembers. */
export const RECENT_FLIPS_MAX = 16
/** Far above what people do in one outage of the registry; the pointer is read by polling, so it stays small. */
export const BREAK_GLASS_MAX = 64

/** What this code may write: see `minWriter`. */
export const POINTER_WRITER = 1

/**
 * The one mutable thing in a store. Written whole, by compare-and-set alone. Fields that a newer snapflip has added are kept through every
 * change; where one must not be kept unread, that raises `minWriter`.
 */
export const pointerSchema = z.looseObject({
  format: z.literal(1),
  /** Code whose POINTER_WRITER is lower may read it, and must not change it (FORMAT_TOO_NEW). Absent: 1. */
  minWriter: z.int().positive().optional(),
  dataset: z.string(),
  active: versionRefSchema.nullable(),
  /** The version a rollback without a name goes to: the newest that finished its bake and is not quarantined. */
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
  candidate: candidateSchema.nullable().default(null),
  pin: pinSchema.nullable().default(null),
  /** Of the active version; null when it is over, or none was declared. */
  bake: bakeSchema.nullable().default(null),
  ttl: ttlSchema.nullable().default(null),
  anchor: anchorSchema.nullable().default(null),
  /** Anchors that the registry's history did not lead to any more when a flip was made, oldest first: the proof of it is not flipped away. */
  contradicted: z.array(contradictedSchema).max(CONTRADICTED_MAX).default([]),
  /** Newest first. No flip of the registry is made while there are any. */
  breakGlass: z.array(breakGlassEntrySchema).max(BREAK_GLASS_MAX).default([]),
})
/** Without the fields that this code does not know. */
export type Pointer = z.infer<z.ZodObject<(typeof pointerSchema)['shape']>>
