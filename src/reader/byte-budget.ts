/** Something a cache may drop at any time: `drop` frees what is large, so that whoever still points at it finds it empty. */
export interface Droppable {
  readonly key: string
  readonly bytes: number
  /** Set by whoever uses it; cleared as the clock passes. A flag costs the hot path less than moving to the front of a list. */
  used: boolean
  drop(): void
}

/**
 * A cache bounded by bytes. Evicts by the clock: oldest first, but what was used since the clock's last pass gets another round.
 * What it holds is immutable and named by where it lies, so nothing is ever invalidated, only outlived.
 */
export class ByteBudget<E extends Droppable> {
  readonly #bytesMax: number
  readonly #entries = new Map<string, E>()
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get(key: string): E | undefined {
    return this.#entries.get(key)
  }

  add(entry: E): void {
    const before = this.#entries.get(entry.key)
    if (before !== undefined) this.#remove(before)
    this.#entries.set(entry.key, entry)
    this.#bytes += entry.bytes
    // One pass clears the flags, the next evicts: the new entry itself goes last, and only when it alone is over the limit.
    let passes = 2 * this.#entries.size
    for (const oldest of this.#entries.values()) {
      if (this.#bytes <= this.#bytesMax || passes-- === 0) return
      if (oldest.used && oldest !== entry) {
        oldest.used = false
        this.#entries.delete(oldest.key)
        this.#entries.set(oldest.key, oldest)
      } else {
        this.#remove(oldest)
      }
    }
  }

  #remove(entry: E): void {
    this.#entries.delete(entry.key)
    this.#bytes -= entry.bytes
    entry.drop()
  }
}
