import type { Location } from '../../../schemas/manifest.ts'
import { SnapflipError } from '../../core/errors.ts'
import { isGeneration, isTag } from '../names.ts'
import { PackWriter } from '../pack-writer.ts'
import type { DataStore, GenerationWriter } from '../ports.ts'
import { cutRange, forEachBounded, planRanges } from '../ranges.ts'
import { contentConflict, generationSwept } from '../swept.ts'
import type { S3Bucket } from './bucket.ts'

const PACK_BYTES_MAX = 16 << 20
/** With the pack being filled: 48 MiB of a build's memory. */
const PACK_WRITES_MAX = 2
/** What is read along costs less than another request, at some 20 ms a request and 50 MB/s. */
const GAP_BYTES_MAX = 256 << 10
const RANGE_BYTES_MAX = 8 << 20
const READS_MAX = 16
const DELETES_MAX = 8

/**
 * `gens/<generation>/begun` is the journal entry, `gens/<generation>/<n>` are packs, `manifests/<tag>` manifests. Since generations
 * are listed by their folder, a pack that a swept writer put late is still found.
 */
export class S3Data implements DataStore {
  readonly layout = 'packs'
  readonly #bucket: S3Bucket

  constructor(bucket: S3Bucket) {
    this.#bucket = bucket
  }

  async begin(generation: string): Promise<GenerationWriter> {
    await this.#bucket.put(begunName(generation), Buffer.from(generation), null)
    return new PackWriter(generation, {
      packBytesMax: PACK_BYTES_MAX,
      writesMax: PACK_WRITES_MAX,
      writePack: (pack, chunks) => this.#writePack(generation, pack, chunks),
      settle: async () => {
        if ((await this.#bucket.modifiedAt(begunName(generation))) !== null) return
        await this.deleteGeneration(generation)
        throw generationSwept(generation, this.#bucket.url)
      },
    })
  }

  async #writePack(generation: string, pack: number, chunks: readonly Uint8Array[]): Promise<void> {
    await this.#putOnce(packName(generation, pack), Buffer.concat(chunks), `Pack ${pack} of generation ${generation}`)
  }

  /** 412 may be this write's own success after a lost reply: what is there decides. 409 leaves it to what is there, too. */
  async #putOnce(name: string, body: Uint8Array, what: string): Promise<'created' | 'same'> {
    const outcome = await this.#bucket.put(name, body, { ifAbsent: true })
    if (typeof outcome === 'object') return 'created'
    const found = await this.#bucket.get(name)
    if (found?.bytes.equals(body)) return 'same'
    if (found !== null) throw contentConflict(what, this.#bucket.url)
    throw new SnapflipError(
      'STORE_UNREACHABLE',
      `${this.#bucket.url} refused ${name} as written by another, but has nothing there, expected either. Try again.`,
      { store: this.#bucket.url, name },
    )
  }

  async read(locations: readonly Location[]): Promise<Array<Uint8Array | null>> {
    const objects = new Array<Uint8Array | null>(locations.length).fill(null)
    const ranges = planRanges(locations, { gapMax: GAP_BYTES_MAX, rangeMax: RANGE_BYTES_MAX })
    await forEachBounded(ranges, READS_MAX, async (range) => {
      const found = await this.#bucket.get(packName(range.generation, range.pack), range)
      if (found !== null) cutRange(range, found.bytes, locations, objects)
    })
    return objects
  }

  putManifest(tag: string, bytes: Uint8Array): Promise<'created' | 'same'> {
    return this.#putOnce(manifestName(tag), bytes, `Manifest ${tag}`)
  }

  async readManifest(tag: string): Promise<Uint8Array | null> {
    return (await this.#bucket.get(manifestName(tag)))?.bytes ?? null
  }

  async listManifests(): Promise<string[]> {
    const { objects } = await this.#bucket.list('manifests/')
    return objects.map(({ name }) => name.slice('manifests/'.length)).filter(isTag)
  }

  deleteManifest(tag: string): Promise<void> {
    return this.#bucket.delete(manifestName(tag))
  }

  async generations(): Promise<Array<{ generation: string; begunAt: Date }>> {
    const { folders } = await this.#bucket.list('gens/', { shallow: true })
    const found: Array<{ generation: string; begunAt: Date }> = []
    await forEachBounded(folders.filter(isGeneration), READS_MAX, async (generation) => {
      const begunAt =
        (await this.#bucket.modifiedAt(begunName(generation))) ??
        (await this.#bucket.list(`gens/${generation}/`)).objects[0]?.modifiedAt
      if (begunAt !== undefined) found.push({ generation, begunAt })
    })
    return found
  }

  async deleteUnits(locations: readonly Location[]): Promise<void> {
    const names = new Set(locations.map(({ generation, pack }) => packName(generation, pack)))
    await forEachBounded([...names], DELETES_MAX, (name) => this.#bucket.delete(name))
  }

  /** The journal entry goes last: a crash before leaves the generation to the next sweep. */
  async deleteGeneration(generation: string): Promise<void> {
    const { objects } = await this.#bucket.list(`gens/${generation}/`)
    const begun = begunName(generation)
    const packs = objects.filter(({ name }) => name !== begun)
    await forEachBounded(packs, DELETES_MAX, ({ name }) => this.#bucket.delete(name))
    await this.#bucket.delete(begun)
  }
}

function begunName(generation: string): string {
  return `gens/${generation}/begun`
}

function packName(generation: string, pack: number): string {
  return `gens/${generation}/${pack}`
}

function manifestName(tag: string): string {
  return `manifests/${tag}`
}
