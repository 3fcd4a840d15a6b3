/** An extent's buffer: what a partition's records are gathered in before they are written. */
export const EXTENT_BYTES = 128 << 10
const BYTES_MAX = 64 << 20

/**
 * What the runs of one build keep in memory, counted: one budget, however many indexes the build has. Past it, records go to files; the buffers
 * through which they go there are as many as the partitions of the chunks that are read at a time, and the next chunks take them over.
 */
export class RunMemory {
  readonly bytesMax: number
  #heldBytes = 0
  #extentBytes = 0
  readonly #spare: Buffer[] = []

  constructor(bytesMax = BYTES_MAX) {
    this.bytesMax = bytesMax
  }

  /** Bytes of records that stay in memory; never more than the budget. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Bytes of buffers for extents, spare ones included. */
  get extentBytes(): number {
    return this.#extentBytes
  }

  /** False: the budget is used up. */
  take(bytes: number): boolean {
    if (this.#heldBytes + bytes > this.bytesMax) return false
    this.#heldBytes += bytes
    return true
  }

  release(bytes: number): void {
    this.#heldBytes -= bytes
  }

  /** A buffer for an extent, or for one record that is larger than that. */
  extent(bytes: number): Buffer {
    const spare = bytes <= EXTENT_BYTES ? this.#spare.pop() : undefined
    if (spare !== undefined) return spare
    const buffer = Buffer.allocUnsafeSlow(Math.max(EXTENT_BYTES, bytes))
    this.#extentBytes += buffer.length
    return buffer
  }

  giveBack(buffer: Buffer): void {
    if (buffer.length === EXTENT_BYTES) this.#spare.push(buffer)
    else this.#extentBytes -= buffer.length
  }

  /** Once all is read: the merge has other uses for the memory. */
  dropSpare(): void {
    this.#extentBytes -= this.#spare.length * EXTENT_BYTES
    this.#spare.length = 0
  }
}
