import type { Location } from '../../../schemas/manifest.ts'
import type { DataStore, GenerationWriter } from '../ports.ts'
import { forEachBounded } from '../ranges.ts'
import { contentConflict } from '../swept.ts'
import type { RedisConnection } from './connection.ts'
import { RedisGeneration, unlinkAll, unlinkNumbers } from './generation.ts'
import type { RedisKeys } from './keys.ts'
import { BEGIN_GENERATION, BEGIN_SWEEP, END_SWEEP } from './scripts.ts'

/** Replies of one batch of a large read; two are on their way at a time. */
const READ_BATCH_BYTES_MAX = 2 << 20
const READ_BATCHES_MAX = 2
/** A build ends within the 24 hours that its activity is given. */
const SWEPT_AGE_MAX_MS = 48 * 3_600_000

/**
 * An object is a key. Commands for objects name one key each, so that a Cluster may spread them. Manifests are fields of one hash:
 * to put one if absent and to list them all need no second key that a crash could leave behind.
 */
export class RedisData implements DataStore {
  readonly layout = 'keys'
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  /** On their way. */
  #reads = 0

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  async begin(generation: string): Promise<GenerationWriter> {
    await this.#connection.run('beginning a generation', () =>
      this.#connection.redis.eval(BEGIN_GENERATION, 1, this.#keys.journal, generation),
    )
    return new RedisGeneration(generation, this.#connection, this.#keys)
  }

  read(locations: readonly Location[]): Promise<Array<Uint8Array | null>> {
    // A reader's get: one block, one round trip, one callback on the way.
    return locations.length === 1 ? this.#get(locations[0] as Location, (bytes) => [bytes]) : this.#readMany(locations)
  }

  async #readMany(locations: readonly Location[]): Promise<Array<Uint8Array | null>> {
    const objects = new Array<Uint8Array | null>(locations.length).fill(null)
    await forEachBounded(batches(locations), READ_BATCHES_MAX, async ({ from, upto }) => {
      const batch = await Promise.all(
        locations.slice(from, upto).map((location) => this.#get(location, (bytes) => bytes)),
      )
      for (let index = 0; index < batch.length; index++) objects[from + index] = batch[index] as Uint8Array | null
    })
    return objects
  }

  #get<T>(location: Location, then: (bytes: Buffer | null) => T): Promise<T> {
    // Alone it goes at once; what comes while it is on its way goes together.
    if (this.#reads++ > 0) this.#connection.cork()
    return this.#connection.redis.getBuffer(this.#keys.object(location.generation, location.offset)).then(
      (bytes) => {
        this.#reads--
        return then(bytes !== null && bytes.length === location.length ? bytes : null)
      },
      (error: unknown) => {
        this.#reads--
        throw this.#connection.translate(error, 'reading blocks')
      },
    )
  }

  putManifest(tag: string, bytes: Uint8Array): Promise<'created' | 'same'> {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    return this.#connection.run('writing a manifest', async () => {
      const created = (await this.#connection.redis.hsetnx(this.#keys.manifests, tag, buffer)) === 1
      await this.#connection.settleReplicas(this.#keys.settle)
      if (created) return 'created'
      if ((await this.#connection.redis.hgetBuffer(this.#keys.manifests, tag))?.equals(buffer)) return 'same'
      throw contentConflict(`Manifest ${tag}`, this.#connection.url)
    })
  }

  readManifest(tag: string): Promise<Uint8Array | null> {
    return this.#connection.run('reading a manifest', () =>
      this.#connection.redis.hgetBuffer(this.#keys.manifests, tag),
    )
  }

  listManifests(): Promise<string[]> {
    return this.#connection.run('listing manifests', () => this.#connection.redis.hkeys(this.#keys.manifests))
  }

  async deleteManifest(tag: string): Promise<void> {
    await this.#connection.run('deleting a manifest', () => this.#connection.redis.hdel(this.#keys.manifests, tag))
  }

  generations(): Promise<Array<{ generation: string; begunAt: Date }>> {
    return this.#connection.run('listing generations', async () => {
      const found: Array<{ generation: string; begunAt: Date }> = []
      for (const [generation, entry] of Object.entries(await this.#connection.redis.hgetall(this.#keys.journal))) {
        const [upto, begunAtMs, , sweptAtMs = '0'] = entry.split(' ')
        if (sweptAtMs === '0') found.push({ generation, begunAt: new Date(Number(begunAtMs)) })
        else if (Number(sweptAtMs) < Date.now() - SWEPT_AGE_MAX_MS) await this.#forget(generation, Number(upto))
      }
      return found
    })
  }

  /** A writer that lives would have found out by now that it was swept, and deleted what it wrote since: this is for one that died first. */
  async #forget(generation: string, upto: number): Promise<void> {
    await unlinkNumbers(this.#connection, this.#keys, generation, 0, upto)
    await this.#connection.redis.hdel(this.#keys.journal, generation)
  }

  deleteUnits(locations: readonly Location[]): Promise<void> {
    return this.#connection.run('deleting blocks', () =>
      unlinkAll(
        this.#connection,
        locations.map(({ generation, offset }) => this.#keys.object(generation, offset)),
      ),
    )
  }

  /**
   * The journal entry goes last: a crash before leaves the generation to the next sweep. That of a writer which is not finished stays, for it may
   * be killed after it has put what it had numbers for: `generations` sweeps again when none can be left.
   */
  deleteGeneration(generation: string): Promise<void> {
    return this.#connection.run('deleting a generation', async () => {
      const { redis } = this.#connection
      const upto = Number(await redis.eval(BEGIN_SWEEP, 1, this.#keys.journal, generation))
      await unlinkNumbers(this.#connection, this.#keys, generation, 0, upto)
      await redis.eval(END_SWEEP, 1, this.#keys.journal, generation)
    })
  }
}

/** Cuts a list of locations into runs of bounded bytes. */
function batches(locations: readonly Location[]): Array<{ from: number; upto: number }> {
  const found: Array<{ from: number; upto: number }> = []
  let from = 0
  let bytes = 0
  for (let index = 0; index < locations.length; index++) {
    const { length } = locations[index] as Location
    if (index > from && bytes + length > READ_BATCH_BYTES_MAX) {
      found.push({ from, upto: index })
      from = index
      bytes = 0
    }
    bytes += length
  }
  if (from < locations.length) found.push({ from, upto: locations.length })
  return found
}
