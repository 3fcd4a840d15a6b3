import type { Location } from '../../schemas/manifest.ts'
import type { GenerationWriter } from './ports.ts'

/**
 * Fills packs one after the other and hands each, when full, to the store. What is not handed over yet is in memory: at most
 * one pack being filled and `writesMax` being written.
 */
export class PackWriter implements GenerationWriter {
  readonly generation: string
  readonly #options: PackWriterOptions
  #pack = 0
  #chunks: Uint8Array[] = []
  #bytes = 0
  readonly #writes = new Set<Promise<void>>()
  #failure: { error: unknown } | undefined

  constructor(generation: string, options: PackWriterOptions) {
    this.generation = generation
    this.#options = options
  }

  async put(objects: readonly Uint8Array[]): Promise<Location[]> {
    const locations: Location[] = []
    for (const object of objects) {
      if (this.#bytes > 0 && this.#bytes + object.length > this.#options.packBytesMax) await this.#handOver()
      locations.push({ generation: this.generation, pack: this.#pack, offset: this.#bytes, length: object.length })
      this.#chunks.push(object)
      this.#bytes += object.length
    }
    if (this.#bytes >= this.#options.packBytesMax) await this.#handOver()
    this.#rethrow()
    return locations
  }

  async finish(): Promise<void> {
    if (this.#bytes > 0) await this.#handOver()
    await Promise.all(this.#writes)
    this.#rethrow()
    await this.#options.settle()
  }

  async #handOver(): Promise<void> {
    while (this.#writes.size >= this.#options.writesMax) await Promise.race(this.#writes)
    this.#rethrow()
    // Another put may have handed it over while this one waited.
    if (this.#bytes === 0) return
    const [pack, chunks, bytes] = [this.#pack++, this.#chunks, this.#bytes]
    this.#chunks = []
    this.#bytes = 0
    // A failed write is remembered, not thrown here: nobody waits for this promise before the next hand-over.
    const write = this.#options
      .writePack(pack, chunks, bytes)
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => this.#writes.delete(write))
    this.#writes.add(write)
  }

  #rethrow(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}

export interface PackWriterOptions {
  /** A pack is handed over before it would grow beyond this; a larger object is a pack of its own. */
  packBytesMax: number
  /** Packs being written at the same time. */
  writesMax: number
  /** Writes one pack durably. */
  writePack(pack: number, chunks: readonly Uint8Array[], bytes: number): Promise<void>
  /** Makes all of the generation durable, and proves that it was not swept meanwhile. */
  settle(): Promise<void>
}
