import { type EntryOp, type EntrySink, REMOVE } from '../snapshot/entry.ts'
import { addHashAt, hashMemory, hex64 } from '../snapshot/hash.ts'

/**
 * Count and sums of what is read into it, as a manifest has them of an index: added entries count up, removed ones down. No order is needed and
 * nothing is kept, so a table of any size is summed in constant memory.
 */
export class ContentSums implements EntrySink {
  count = 0
  readonly #added = new BigUint64Array(2)
  readonly #removed = new BigUint64Array(2)

  entry(op: EntryOp, bytes: Buffer, start: number, end: number): void {
    const length = end - start
    hashMemory(length).set(bytes.subarray(start, end))
    const sums = op === REMOVE ? this.#removed : this.#added
    addHashAt(sums, 0, 0, length, 1n)
    addHashAt(sums, 1, 0, length, 2n)
    this.count += op === REMOVE ? -1 : 1
  }

  ready(): undefined {}

  get sums(): [string, string] {
    const at = (n: number) => hex64((this.#added[n] ?? 0n) - (this.#removed[n] ?? 0n))
    return [at(0), at(1)]
  }
}
