import type { Location } from '../../schemas/manifest.ts'
import type { GenerationWriter } from '../stores/ports.ts'

/** A batch is put when it has this many objects or bytes: enough to fill a pipeline, little enough to keep memory flat. */
const BATCH_OBJECTS = 256
const BATCH_BYTES = 2 << 20
/** Batches waiting for the store before the builder waits too. */
const QUEUE_MAX = 4

interface Batch {
  objects: Uint8Array[]
  placed: Array<(location: Location) => void>
  bytes: number
}

const emptyBatch = (): Batch => ({ objects: [], placed: [], bytes: 0 })

/** Puts objects in batches, one batch at a time and in order, while the builder works on the next ones. */
export class ObjectQueue {
  objects = 0
  bytes = 0
  readonly #writer: GenerationWriter
  #batch = emptyBatch()
  #queue: Batch[] = []
  #running: Promise<void> | undefined
  #failure: unknown

  constructor(writer: GenerationWriter) {
    this.#writer = writer
  }

  /** `placed` is called when the store has said where the object lies; it may add further objects. */
  add(object: Uint8Array, placed: (location: Location) => void): void {
    const batch = this.#batch
    batch.objects.push(object)
    batch.placed.push(placed)
    batch.bytes += object.length
    this.objects++
    this.bytes += object.length
    if (batch.objects.length >= BATCH_OBJECTS || batch.bytes >= BATCH_BYTES) this.#enqueue()
  }

  /** Undefined when the builder may go on; else resolves when it may. */
  ready(): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return this.#queue.length < QUEUE_MAX ? undefined : this.#running
  }

  /** Resolves when everything added, also by `placed` meanwhile, has been placed. */
  async drain(): Promise<void> {
    for (;;) {
      this.#enqueue()
      if (this.#running === undefined) break
      await this.#running
    }
    if (this.#failure !== undefined) throw this.#failure
  }

  #enqueue(): void {
    if (this.#batch.objects.length > 0) {
      this.#queue.push(this.#batch)
      this.#batch = emptyBatch()
    }
    if (this.#running === undefined && this.#queue.length > 0 && this.#failure === undefined)
      this.#running = this.#put().finally(() => {
        this.#running = undefined
        // `placed` may have filled another batch after the last look at the queue.
        if (this.#queue.length > 0) this.#enqueue()
      })
  }

  /** Puts one batch, so that whoever waits for room goes on as soon as there is some. Never rejects: `ready` and `drain` tell. */
  async #put(): Promise<void> {
    const batch = this.#queue.shift() as Batch
    try {
      const locations = await this.#writer.put(batch.objects)
      batch.placed.forEach((placed, i) => {
        placed(locations[i] as Location)
      })
    } catch (error) {
      this.#failure ??= error
      this.#queue = []
    }
  }
}
