import { z } from 'zod'
import { tagSchema } from './pointer.ts'

/** The format this code writes, and the least reader that can read it. */
export const MANIFEST_FORMAT = 1
export const READER_FORMAT = 1

const hex = (digits: number) => z.string().regex(new RegExp(`^[0-9a-f]{${digits}}$`))

/** 16 random bytes (UUIDv7) as 32 hex digits: one attempt at writing. What it writes belongs to it alone. */
export const generationSchema = hex(32)

/** Where an object lies in a store. In a `keys` store `pack` is 0 and `offset` the object's number in its generation. */
export const locationSchema = z.object({
  generation: generationSchema,
  pack: z.int().nonnegative(),
  offset: z.int().nonnegative(),
  /** Stored bytes. */
  length: z.int().positive(),
})
export type Location = z.infer<typeof locationSchema>

/** Root of a tree of pages: its location, the SHA-256 of its stored bytes, and how many node levels stand above the pages. */
export const treeSchema = z.object({ ...locationSchema.shape, sha256: hex(64), depth: z.int().nonnegative() })
export type TreeRoot = z.infer<typeof treeSchema>

export const indexManifestSchema = z.object({
  kind: z.enum(['unique', 'many']),
  /** How many parts a key has; several are joined by a zero byte, which PostgreSQL text cannot hold. 0: any number (events). */
  keyParts: z.int().nonnegative(),
  /** Seed of the hash that places keys into blocks, random per index, inherited by every later version. */
  seed: hex(16),
  /** block = top `bits` bits of xxh64(key, seed); 2^bits blocks. */
  bits: z.int().min(0).max(32),
  count: z.int().nonnegative(),
  /** Bytes of all entries before compression. */
  bytes: z.int().nonnegative(),
  /** Sums mod 2^64 of xxh64(entry) under seeds 1 and 2. */
  sums: z.tuple([hex(16), hex(16)]),
  /** Fingerprint of key, value, order and where expressions with their types: readers see when the shape changes. */
  shape: z.string(),
  /** How this version's blocks came about. */
  build: z.enum(['full', 'incremental', 'unchanged']),
  /** Why it was built in full, if it was. */
  reason: z.string().nullable(),
  /** Of an index that is read again by age: when its source was last read, where that was not with this version's watermark. */
  readAt: z.iso.datetime().optional(),
  location: treeSchema,
  audit: treeSchema,
})
/** An index as a version holds it: counts, sums, and where its pages begin. */
export type IndexManifest = z.infer<typeof indexManifestSchema>

export const watermarkSchema = z.object({
  id: z.uuid(),
  /** pg_snapshot as text: xmin:xmax:xip,… */
  snapshot: z.string().regex(/^\d+:\d+:[\d,]*$/),
  nonce: hex(32),
  /** pg_control_system().system_identifier and the database's oid. */
  system: z.string(),
  at: z.iso.datetime(),
})
export type Watermark = z.infer<typeof watermarkSchema>

/** A version's table of contents; writing it seals the version. Stored as UTF-8 JSON, keys in this order. */
export const manifestSchema = z.object({
  format: z.int().positive(),
  /** A reader whose READER_FORMAT is lower must refuse (FORMAT_TOO_NEW) before it reads anything else. */
  minReader: z.int().positive(),
  dataset: z.string(),
  tag: tagSchema,
  ordinal: z.int().positive(),
  parent: z.object({ tag: tagSchema, manifest: hex(64) }).nullable(),
  createdAt: z.iso.datetime(),
  /** The generation that sealed it. */
  generation: generationSchema,
  watermark: watermarkSchema,
  digest: hex(64),
  indexes: z.record(z.string(), indexManifestSchema),
  /** Every (generation, pack) this version uses, with what of it is alive in this version. */
  sources: z.array(
    z.object({
      generation: generationSchema,
      pack: z.int().nonnegative(),
      objects: z.int().positive(),
      bytes: z.int().positive(),
    }),
  ),
  writer: z.string(),
})
/** A version's table of contents, sealed by its SHA-256. */
export type Manifest = z.infer<typeof manifestSchema>
