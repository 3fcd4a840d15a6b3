import { z } from 'zod'
import {
  type IndexManifest,
  MANIFEST_FORMAT,
  type Manifest,
  manifestSchema,
  READER_FORMAT,
} from '../../schemas/manifest.ts'
import { SnapflipError } from '../core/errors.ts'
import { sha256Hex } from './hash.ts'

/** What every manifest ever written has: looked at before anything else of it is understood. */
const envelopeSchema = z.object({ format: z.int().positive(), minReader: z.int().positive() })

/** The bytes of a manifest: UTF-8 JSON without spaces, fields in the schema's order, indexes and sources sorted. Equal manifests have equal bytes. */
export function encodeManifest(manifest: Manifest): Buffer {
  const indexes = Object.fromEntries(Object.entries(manifest.indexes).sort(([a], [b]) => (a < b ? -1 : 1)))
  const sources = manifest.sources.toSorted((a, b) =>
    a.generation === b.generation ? a.pack - b.pack : a.generation < b.generation ? -1 : 1,
  )
  // Parsing puts the fields into the schema's order.
  return Buffer.from(JSON.stringify(manifestSchema.parse({ ...manifest, indexes, sources })), 'utf8')
}

/** SHA-256 (hex) of a manifest's bytes: the Merkle root of all that the version holds. */
export function manifestHash(bytes: Uint8Array): string {
  return sha256Hex(bytes)
}

export interface ManifestExpectation {
  dataset: string
  tag: string
  /** SHA-256 the bytes must have, where it is known (the pointer has it). */
  sha256?: string
}

/**
 * Reads a manifest's bytes. Throws FORMAT_TOO_NEW when this code is too old for it, before anything else of it is read, and
 * CORRUPT when the bytes are not the manifest they are said to be.
 */
export function decodeManifest(bytes: Uint8Array, expected: ManifestExpectation): Manifest {
  const fail = (wanted: string, found: string, cause?: unknown) =>
    new SnapflipError(
      'CORRUPT',
      `The manifest of ${expected.tag} in ${expected.dataset} is corrupt: expected ${wanted}, found ${found}. ` +
        `Roll back to another version, or restore the object from a copy of the store.`,
      { dataset: expected.dataset, tag: expected.tag, object: 'manifest', expected: wanted, found },
      cause,
    )
  const found = manifestHash(bytes)
  if (expected.sha256 !== undefined && found !== expected.sha256)
    throw fail(`SHA-256 ${expected.sha256}`, `${found} over ${bytes.length} bytes`)
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw fail('UTF-8 JSON', `${bytes.length} bytes that do not parse`, error)
  }
  const envelope = envelopeSchema.safeParse(json)
  if (!envelope.success) throw fail('a format and a least reader', 'neither', envelope.error)
  if (envelope.data.minReader > READER_FORMAT)
    throw new SnapflipError(
      'FORMAT_TOO_NEW',
      `Version ${expected.tag} of ${expected.dataset} needs a reader of format ${envelope.data.minReader} or newer, this one reads ${READER_FORMAT}. Upgrade snapflip where this runs.`,
      { dataset: expected.dataset, tag: expected.tag, needed: envelope.data.minReader, found: READER_FORMAT },
    )
  const parsed = manifestSchema.safeParse(json)
  if (!parsed.success)
    throw fail(
      `a manifest of format ${MANIFEST_FORMAT}`,
      parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '),
      parsed.error,
    )
  const manifest = parsed.data
  if (manifest.tag !== expected.tag || manifest.dataset !== expected.dataset)
    throw fail(`${expected.tag} of ${expected.dataset}`, `${manifest.tag} of ${manifest.dataset}`)
  const digest = contentDigest(manifest.indexes)
  if (digest !== manifest.digest) throw fail(`digest ${digest}, which its indexes add up to`, manifest.digest)
  return manifest
}

/**
 * The digest of a version: SHA-256 over one line an index, sorted by name: `name kind count sum1 sum2\n`. Content only: the same
 * for incremental and full builds, whatever their layout, order or history.
 */
export function contentDigest(indexes: Record<string, Pick<IndexManifest, 'kind' | 'count' | 'sums'>>): string {
  const lines = Object.entries(indexes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, index]) => `${name} ${index.kind} ${index.count} ${index.sums[0]} ${index.sums[1]}\n`)
  return sha256Hex(lines.join(''))
}
