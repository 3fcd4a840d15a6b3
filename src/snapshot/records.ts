import { ADD, type EntryOp, SET } from './entry.ts'
import { compareEntries, compareKeys } from './entry-order.ts'
import { blockOf } from './hash.ts'

/**
 * Records are entries on their way from a scan into blocks, end to end in buffers:
 *
 *     record: u32 key hash, u8 op (two's complement), u32 entry length, entry        (little-endian)
 */
export const RECORD_HEADER = 9

/** A new buffer of records, and what one slab of a scan holds. */
export const SLAB_BYTES = 1 << 20
/** Up to this many entries, insertion sort beats the library's. */
const INSERTION_MAX = 48

/** Records end to end in one buffer that is used again for each hash range. */
export class RecordBuffer {
  bytes: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES)
  length = 0

  #grow(length: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(length, Math.ceil(this.bytes.length * 1.5)))
    this.bytes.copy(grown, 0, 0, this.length)
    this.bytes = grown
  }

  /** Room for `bytes` more of records, as a view to be filled. */
  reserve(bytes: number): Buffer {
    if (this.length + bytes > this.bytes.length) this.#grow(this.length + bytes)
    this.length += bytes
    return this.bytes.subarray(this.length - bytes, this.length)
  }

  /** Returns where the record begins. */
  add(hash: number, op: EntryOp, bytes: Buffer, start: number, end: number): number {
    const at = this.length
    this.reserve(RECORD_HEADER + end - start)
    writeRecord(this.bytes, at, hash, op, bytes, start, end)
    return at
  }

  addMatching(records: Buffer, rangeBits: number, range: number): void {
    if (rangeBits === 0) {
      records.copy(this.reserve(records.length))
      return
    }
    const shift = 32 - rangeBits
    for (let at = 0; at < records.length; ) {
      const end = at + RECORD_HEADER + recordLength(records, at)
      if (recordHash(records, at) >>> shift === range) {
        if (this.length + end - at > this.bytes.length) this.#grow(this.length + end - at)
        records.copy(this.bytes, this.length, at, end)
        this.length += end - at
      }
      at = end
    }
  }
}

export function writeRecord(
  target: Buffer,
  at: number,
  hash: number,
  op: EntryOp,
  bytes: Buffer,
  start: number,
  end: number,
): void {
  const length = end - start
  target[at] = hash
  target[at + 1] = hash >>> 8
  target[at + 2] = hash >>> 16
  target[at + 3] = hash >>> 24
  target[at + 4] = op
  target[at + 5] = length
  target[at + 6] = length >>> 8
  target[at + 7] = length >>> 16
  target[at + 8] = length >>> 24
  bytes.copy(target, at + RECORD_HEADER, start, end)
}

export function recordHash(bytes: Uint8Array, at: number): number {
  return littleEndian(bytes, at)
}

/** Entry length of the record at `at`. */
export function recordLength(bytes: Uint8Array, at: number): number {
  return littleEndian(bytes, at + 5)
}

function littleEndian(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  )
}

export interface SortedRecords {
  /** Blocks that have records, ascending. */
  blocks: Uint32Array
  /** Where each block's records begin in `positions`; one more at the end. */
  starts: Uint32Array
  /** Record offsets, by block, then as they came. */
  positions: Uint32Array
  /** Blocks that the range covers. */
  span: number
}

/** Groups records by block, keeping their order. */
export function sortByBlock(records: RecordBuffer, bits: number, first: number, span: number): SortedRecords {
  const { bytes, length } = records
  let n = 0
  for (let at = 0; at < length; at += RECORD_HEADER + recordLength(bytes, at)) n++
  const positions = new Uint32Array(n)
  if (span > 4 * n + 1024 && n < 2 ** 21) {
    // Few records in many blocks: one number holds block and place, and sorts without a comparator.
    const keys = new Float64Array(n)
    const unsorted = new Uint32Array(n)
    for (let at = 0, i = 0; at < length; at += RECORD_HEADER + recordLength(bytes, at), i++) {
      unsorted[i] = at
      keys[i] = blockOf(recordHash(bytes, at), bits) * 2 ** 21 + i
    }
    keys.sort()
    const blocks: number[] = []
    const starts: number[] = []
    for (let i = 0; i < n; i++) {
      const key = keys[i] as number
      const block = Math.floor(key / 2 ** 21)
      positions[i] = unsorted[key % 2 ** 21] as number
      if (blocks.at(-1) !== block) {
        blocks.push(block)
        starts.push(i)
      }
    }
    starts.push(n)
    return { blocks: Uint32Array.from(blocks), starts: Uint32Array.from(starts), positions, span }
  }
  const next = new Uint32Array(span + 1)
  for (let at = 0; at < length; at += RECORD_HEADER + recordLength(bytes, at)) {
    const slot = blockOf(recordHash(bytes, at), bits) - first + 1
    next[slot] = (next[slot] as number) + 1
  }
  let used = 0
  for (let i = 0; i < span; i++) {
    if (next[i + 1] !== 0) used++
    next[i + 1] = (next[i + 1] as number) + (next[i] as number)
  }
  const blocks = new Uint32Array(used)
  const starts = new Uint32Array(used + 1)
  for (let i = 0, b = 0; i < span; i++)
    if (next[i + 1] !== next[i]) {
      blocks[b] = first + i
      starts[b++] = next[i] as number
    }
  starts[used] = n
  for (let at = 0; at < length; at += RECORD_HEADER + recordLength(bytes, at)) {
    const slot = blockOf(recordHash(bytes, at), bits) - first
    const place = next[slot] as number
    positions[place] = at
    next[slot] = place + 1
  }
  return { blocks, starts, positions, span }
}

/** Sorts a block's records by (key, order, value); a key's SETs come last, in the order they came. */
export function sortRecords(bytes: Buffer, positions: Uint32Array, many: boolean): void {
  const order = (a: number, b: number): number => {
    const aSet = bytes[a + 4] === SET
    const bSet = bytes[b + 4] === SET
    if (!aSet && !bSet) return compareEntries(bytes, a + RECORD_HEADER, bytes, b + RECORD_HEADER, many)
    return compareKeys(bytes, a + RECORD_HEADER, bytes, b + RECORD_HEADER) || (aSet && bSet ? a - b : aSet ? 1 : -1)
  }
  if (positions.length > INSERTION_MAX) {
    positions.sort(order)
    return
  }
  for (let i = 1; i < positions.length; i++) {
    const position = positions[i] as number
    let j = i - 1
    for (; j >= 0 && order(positions[j] as number, position) > 0; j--) positions[j + 1] = positions[j] as number
    positions[j + 1] = position
  }
}

/** Sorted records without the additions and removals of equal entries that cancel out; SETs stay. */
export function netRecords(bytes: Buffer, positions: Uint32Array, many: boolean): Uint32Array {
  const kept: number[] = []
  const isSet = (position: number) => bytes[position + 4] === SET
  for (let i = 0; i < positions.length; ) {
    const first = positions[i] as number
    if (isSet(first)) {
      kept.push(first)
      i++
      continue
    }
    const added: number[] = []
    const removed: number[] = []
    for (; i < positions.length; i++) {
      const position = positions[i] as number
      if (isSet(position)) break
      if (compareEntries(bytes, first + RECORD_HEADER, bytes, position + RECORD_HEADER, many) !== 0) break
      ;(bytes[position + 4] === ADD ? added : removed).push(position)
    }
    const [more, fewer] = added.length > removed.length ? [added, removed] : [removed, added]
    for (const position of more.slice(fewer.length)) kept.push(position)
  }
  return Uint32Array.from(kept)
}
