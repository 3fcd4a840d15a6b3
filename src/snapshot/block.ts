import { compressSync, uncompressSync } from 'lz4-napi'
import { corrupt, type Where } from './corrupt.ts'
import { hashAt, hashMemory } from './hash.ts'

/**
 * A block is the entries of one hash bucket, sorted by (key, order, value) bytes and laid end to end. Stored:
 *
 *     u8 codec (0 raw, 1 LZ4), then  raw: the entries;  LZ4: u32 little-endian raw size, LZ4 block
 *
 * A block without entries is not stored at all.
 */
const RAW = 0
const LZ4 = 1

/** Below this many bytes compression costs more than it saves. */
const COMPRESS_BYTES_MIN = 64

/** No block may be larger before compression: a reader holds the whole of it for one get. */
export const BLOCK_BYTES_MAX = 64 << 20

/** `raw` may lie in reused memory: what is returned never shares it. */
export function encodeBlock(raw: Buffer): Buffer {
  if (raw.length >= COMPRESS_BYTES_MIN) {
    // lz4-napi puts the raw size before the block, as u32 little-endian.
    const packed = compressSync(raw)
    if (packed.length < raw.length) return prefixed(LZ4, packed)
  }
  return prefixed(RAW, raw)
}

function prefixed(codec: number, body: Buffer): Buffer {
  const stored = Buffer.allocUnsafe(1 + body.length)
  stored[0] = codec
  body.copy(stored, 1)
  return stored
}

/** xxh64 of a block's stored bytes, as its location page has it. */
export function blockChecksum(stored: Uint8Array): bigint {
  hashMemory(stored.length).set(stored)
  return hashAt(0, stored.length, 0n)
}

/** Checks what was read against the location page and returns the block's entries. */
export function openBlock(stored: Uint8Array, checksum: bigint, block: number, where: Where): Buffer {
  const found = blockChecksum(stored)
  if (found !== checksum)
    throw corrupt(
      where,
      `block ${block}`,
      `checksum ${checksum.toString(16)}`,
      `${found.toString(16)} over ${stored.length} bytes`,
    )
  return decodeBlock(stored, block, where)
}

/** Stored bytes → entries. The caller has compared the checksum. */
export function decodeBlock(stored: Uint8Array, block: number, where: Where): Buffer {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength)
  if (bytes[0] === RAW) return bytes.subarray(1)
  if (bytes[0] !== LZ4 || bytes.length < 5)
    throw corrupt(where, `block ${block}`, 'codec 0 or 1', `codec ${bytes[0]} in ${bytes.length} bytes`)
  const size = bytes.readUInt32LE(1)
  // LZ4 cannot pack better than 255 to 1: a larger size is damage, and would be allocated before anything else is noticed.
  if (size > bytes.length * 255)
    throw corrupt(where, `block ${block}`, `at most ${bytes.length * 255} raw bytes`, `${size}`)
  try {
    return uncompressSync(bytes.subarray(1))
  } catch (error) {
    throw corrupt(where, `block ${block}`, 'an LZ4 block', 'bytes that do not decompress', error)
  }
}

/** Bytes of a stored block's entries before compression, without decoding it. The caller has compared the checksum. */
export function rawLength(stored: Uint8Array, block: number, where: Where): number {
  if (stored[0] === RAW) return stored.length - 1
  if (stored[0] !== LZ4 || stored.length < 5)
    throw corrupt(where, `block ${block}`, 'codec 0 or 1', `codec ${stored[0]} in ${stored.length} bytes`)
  return Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength).readUInt32LE(1)
}

/**
 * Walks the entries of a block: `visit(start, keyStart, keyEnd, valueStart, end)`. In a `many` index the order's bytes lie between
 * keyEnd + 4 and valueStart - 4. Returns how many there were; throws CORRUPT when lengths do not add up.
 */
export function eachEntry(
  raw: Buffer,
  many: boolean,
  block: number,
  where: Where,
  visit: (start: number, keyStart: number, keyEnd: number, valueStart: number, end: number) => void,
): number {
  const length = raw.length
  let at = 0
  let count = 0
  while (at < length) {
    const keyStart = at + 4
    const keyEnd = keyStart + lengthAt(raw, at)
    let valueStart = keyEnd + 4
    if (many && valueStart <= length) valueStart += lengthAt(raw, keyEnd) + 4
    const end = valueStart <= length ? valueStart + lengthAt(raw, valueStart - 4) : length + 1
    if (end > length || keyEnd > end || valueStart > end)
      throw corrupt(where, `block ${block}`, 'whole entries', `an entry cut at byte ${at} of ${length}`)
    visit(at, keyStart, keyEnd, valueStart, end)
    count++
    at = end
  }
  return count
}

/** Big-endian u32 at `at`, as a number: a damaged, "negative" length is huge and fails the bounds check of its caller. */
export function lengthAt(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) * 0x1000000 +
    (((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number))
  )
}

/** Bytes compared as PostgreSQL's bytea and memcmp do; a prefix comes first. */
function compareKey(raw: Uint8Array, start: number, end: number, key: Uint8Array): number {
  const length = Math.min(end - start, key.length)
  for (let i = 0; i < length; i++) {
    const d = (raw[start + i] as number) - (key[i] as number)
    if (d !== 0) return d
  }
  return end - start - key.length
}

/**
 * The value of a key in a unique index's block, as a view into `raw`; undefined when the block does not have the key.
 * The reader's hot path: entries are skipped by their lengths, and the sort order ends a miss early.
 */
export function lookup(raw: Buffer, key: Uint8Array): Buffer | undefined {
  const length = raw.length
  let at = 0
  while (at + 8 <= length) {
    const keyEnd = at + 4 + lengthAt(raw, at)
    const valueStart = keyEnd + 4
    const order = compareKey(raw, at + 4, keyEnd, key)
    if (order > 0) return undefined
    const end = valueStart + lengthAt(raw, keyEnd)
    if (order === 0) return raw.subarray(valueStart, end)
    at = end
  }
  return undefined
}

/** The values of a key in a `many` index's block, in order, as views into `raw`. */
export function lookupMany(raw: Buffer, key: Uint8Array): Buffer[] {
  const values: Buffer[] = []
  const length = raw.length
  let at = 0
  while (at + 12 <= length) {
    const keyEnd = at + 4 + lengthAt(raw, at)
    const order = compareKey(raw, at + 4, keyEnd, key)
    if (order > 0) break
    const valueStart = keyEnd + 8 + lengthAt(raw, keyEnd)
    const end = valueStart + lengthAt(raw, valueStart - 4)
    if (order === 0) values.push(raw.subarray(valueStart, end))
    at = end
  }
  return values
}
