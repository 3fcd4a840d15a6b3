import type { Location } from '../../../schemas/manifest.ts'
import type { GenerationWriter } from '../ports.ts'
import { generationSwept } from '../swept.ts'
import type { RedisConnection } from './connection.ts'
import type { RedisKeys } from './keys.ts'
import { FINISH_GENERATION, RESERVE_NUMBERS } from './scripts.ts'

/** Sent but not acknowledged: enough to keep Redis busy, little beside a build's memory and Redis's own input buffers. */
const IN_FLIGHT_BYTES_MAX = 8 << 20
/** One round trip a range; what of it stays unused costs a sweep that many UNLINKs of nothing. */
const NUMBERS_A_RANGE = 4096
/** UNLINKs sent before their replies are awaited. */
const UNLINKS_A_BATCH = 1024

export class RedisGeneration implements GenerationWriter {
  readonly generation: string
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  /** Reserved and not yet used: [next, end). */
  #next = 0
  #end = 0
  readonly #ranges: Array<{ from: number; upto: number }> = []
  #inFlightBytes = 0
  #inFlight = 0
  #failure: { error: unknown } | undefined
  #waiting: Array<() => void> = []

  constructor(generation: string, connection: RedisConnection, keys: RedisKeys) {
    this.generation = generation
    this.#connection = connection
    this.#keys = keys
  }

  async put(objects: readonly Uint8Array[]): Promise<Location[]> {
    const from = await this.#take(objects.length)
    const locations = new Array<Location>(objects.length)
    for (let index = 0; index < objects.length; index++) {
      while (this.#inFlightBytes >= IN_FLIGHT_BYTES_MAX) await this.#reply()
      this.#rethrow()
      const object = objects[index] as Uint8Array
      this.#send(this.#keys.object(this.generation, from + index), object)
      locations[index] = { generation: this.generation, pack: 0, offset: from + index, length: object.length }
    }
    while (this.#inFlightBytes >= IN_FLIGHT_BYTES_MAX) await this.#reply()
    this.#rethrow()
    return locations
  }

  async finish(): Promise<void> {
    while (this.#inFlight > 0) await this.#reply()
    this.#rethrow()
    // What is put after all gets new numbers: with the first of them the journal says again that there is a writer.
    this.#next = this.#end
    await this.#connection.run('finishing a generation', async () => {
      const { redis } = this.#connection
      if ((await redis.eval(FINISH_GENERATION, 1, this.#keys.journal, this.generation)) === 0) await this.#giveUp()
      await this.#connection.settleReplicas(this.#keys.settle)
    })
  }

  /** The first of `count` numbers that are this writer's alone; journalled before any is used. */
  async #take(count: number): Promise<number> {
    if (this.#next + count > this.#end) {
      const size = Math.max(NUMBERS_A_RANGE, count)
      const from = await this.#connection.run('reserving numbers', () =>
        this.#connection.redis.eval(RESERVE_NUMBERS, 1, this.#keys.journal, this.generation, size),
      )
      if (from === -1) return this.#giveUp()
      this.#ranges.push({ from: Number(from), upto: Number(from) + size })
      this.#next = Number(from)
      this.#end = this.#next + size
    }
    const from = this.#next
    this.#next += count
    return from
  }

  /** The sweep could not delete what was written after it: this writer does, and then its journal entry may go. */
  async #giveUp(): Promise<never> {
    const error = generationSwept(this.generation, this.#connection.url)
    this.#failure ??= { error }
    while (this.#inFlight > 0) await this.#reply()
    for (const { from, upto } of this.#ranges) {
      await unlinkNumbers(this.#connection, this.#keys, this.generation, from, upto)
    }
    await this.#connection.redis.hdel(this.#keys.journal, this.generation)
    throw error
  }

  #send(key: string, object: Uint8Array): void {
    const bytes = Buffer.from(object.buffer, object.byteOffset, object.length)
    this.#inFlightBytes += object.length
    this.#inFlight++
    const replied = () => {
      this.#inFlightBytes -= object.length
      this.#inFlight--
      const waiting = this.#waiting
      this.#waiting = []
      for (const go of waiting) go()
    }
    this.#connection.cork()
    this.#connection.redis.set(key, bytes).then(replied, (error: unknown) => {
      this.#failure ??= { error: this.#connection.translate(error, 'writing blocks') }
      replied()
    })
  }

  #reply(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  #rethrow(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}

/** Deletes the objects [from, upto) of a generation, in bounded batches of single-key commands. */
export async function unlinkNumbers(
  connection: RedisConnection,
  keys: RedisKeys,
  generation: string,
  from: number,
  upto: number,
): Promise<void> {
  for (let first = from; first < upto; first += UNLINKS_A_BATCH) {
    const count = Math.min(UNLINKS_A_BATCH, upto - first)
    await unlinkAll(
      connection,
      Array.from({ length: count }, (_, index) => keys.object(generation, first + index)),
    )
  }
}

export async function unlinkAll(connection: RedisConnection, keys: readonly string[]): Promise<void> {
  for (let from = 0; from < keys.length; from += UNLINKS_A_BATCH) {
    connection.cork()
    await Promise.all(keys.slice(from, from + UNLINKS_A_BATCH).map((key) => connection.redis.unlink(key)))
  }
}
