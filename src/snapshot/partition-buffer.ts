import { ADD, type EntryOp } from './entry.ts'
import { RECORD_HEADER, recordHash, recordLength, writeRecord } from './records.ts'

/** The op of a record that was taken back, until the buffer is compacted. Never written. */
const TAKEN_BACK = 2

/**
 * Records on their way to an extent. A removal of what was added shortly before takes that back, and neither is kept: a row that is updated over
 * and over, between two builds, leaves its first and its last image, whatever number of images came in between.
 */
export class PartitionBuffer {
  readonly bytes: Buffer
  #filled = 0
  #takenBack = 0
  /** By key hash, where the last addition of such a key begins. */
  readonly #added = new Map<number, number>()

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  /** The records, without those that were taken back. */
  records(): Buffer {
    this.#compact()
    return this.bytes.subarray(0, this.#filled)
  }

  /** Room for `size` bytes. A buffer of which half was taken back is filled again before it is written. */
  hasRoom(size: number): boolean {
    if (this.#filled + size <= this.bytes.length) return true
    if (this.#takenBack * 2 < this.#filled) return false
    this.#compact()
    return this.#filled + size <= this.bytes.length
  }

  /** There must be room. `tracked`: it may be taken back. */
  put(hash: number, op: EntryOp, bytes: Buffer, start: number, end: number, tracked: boolean): void {
    if (tracked && op === ADD) this.#added.set(hash, this.#filled)
    writeRecord(this.bytes, this.#filled, hash, op, bytes, start, end)
    this.#filled += RECORD_HEADER + end - start
  }

  /** Whether this very entry was added to the buffer, and is gone now. */
  takeBack(hash: number, bytes: Buffer, start: number, end: number): boolean {
    const at = this.#added.get(hash)
    if (at === undefined || recordLength(this.bytes, at) !== end - start) return false
    const entry = at + RECORD_HEADER
    const next = entry + end - start
    if (this.bytes.compare(bytes, start, end, entry, next) !== 0) return false
    this.#added.delete(hash)
    if (next === this.#filled) this.#filled = at
    else {
      this.bytes[at + 4] = TAKEN_BACK
      this.#takenBack += next - at
    }
    return true
  }

  #compact(): void {
    if (this.#takenBack === 0) return
    let to = 0
    for (let at = 0; at < this.#filled; ) {
      const next = at + RECORD_HEADER + recordLength(this.bytes, at)
      if (this.bytes[at + 4] !== TAKEN_BACK) {
        const hash = recordHash(this.bytes, at)
        if (this.#added.get(hash) === at) this.#added.set(hash, to)
        this.bytes.copyWithin(to, at, next)
        to += next - at
      }
      at = next
    }
    this.#filled = to
    this.#takenBack = 0
  }
}
