import { dirname } from 'node:path'
import type { Location } from '../../../schemas/manifest.ts'
import { isGeneration, isTag } from '../names.ts'
import { PackWriter } from '../pack-writer.ts'
import type { DataStore, GenerationWriter } from '../ports.ts'
import { cutRange, forEachBounded, planRanges } from '../ranges.ts'
import { contentConflict, generationSwept } from '../swept.ts'
import { absentAs, type DurableFiles, isFsError } from './files.ts'
import { PackFiles } from './pack-files.ts'

const PACK_BYTES_MAX = 16 << 20
/** One pack on its way to the disk while the next one fills. */
const PACK_WRITES_MAX = 1
/** A page of the disk: to skip less costs more than to read it along. */
const GAP_BYTES_MAX = 4096
const RANGE_BYTES_MAX = 1 << 20
/** libuv has four threads for files. */
const READS_MAX = 4

/**
 * `packs/<generation>/<n>` and `manifests/<tag>`. The folder of a generation is its journal entry: it is there, durably, before
 * its first pack, and its file `begun` says since when.
 */
export class FolderData implements DataStore {
  readonly layout = 'packs'
  readonly #files: DurableFiles
  readonly #packs: PackFiles

  constructor(files: DurableFiles) {
    this.#files = files
    this.#packs = new PackFiles(files)
  }

  async begin(generation: string): Promise<GenerationWriter> {
    const folder = this.#files.path('packs', generation)
    const begun = this.#files.path('packs', generation, 'begun')
    await this.#files.run('beginning a generation', async () => {
      await this.#files.createFolder(folder)
      await this.#files.create(begun, [Buffer.from(new Date().toISOString())])
    })
    return new PackWriter(generation, {
      packBytesMax: PACK_BYTES_MAX,
      writesMax: PACK_WRITES_MAX,
      writePack: (pack, chunks) => this.#writePack(generation, pack, chunks),
      settle: () =>
        this.#files.run('finishing a generation', async () => {
          if ((await this.#files.read(begun)) === null) throw generationSwept(generation, this.#files.url)
        }),
    })
  }

  #writePack(generation: string, pack: number, chunks: readonly Uint8Array[]): Promise<void> {
    const path = this.#packPath(generation, pack)
    return this.#files.run('writing a pack', async () => {
      try {
        if (await this.#files.create(path, chunks)) return
      } catch (error) {
        // The temporary file is elsewhere: what is absent is the generation's folder.
        if (isFsError(error, 'ENOENT')) throw generationSwept(generation, this.#files.url)
        throw error
      }
      const found = await this.#files.read(path)
      if (found === null || !found.equals(Buffer.concat(chunks))) {
        throw contentConflict(`Pack ${pack} of generation ${generation}`, this.#files.url)
      }
    })
  }

  async read(locations: readonly Location[]): Promise<Array<Uint8Array | null>> {
    const objects = new Array<Uint8Array | null>(locations.length).fill(null)
    const ranges = planRanges(locations, { gapMax: GAP_BYTES_MAX, rangeMax: RANGE_BYTES_MAX })
    await this.#files.run('reading packs', () =>
      forEachBounded(ranges, READS_MAX, async (range) => {
        const path = this.#packPath(range.generation, range.pack)
        const bytes = await this.#packs.read(path, range.start, range.end - range.start)
        if (bytes !== null) cutRange(range, bytes, locations, objects)
      }),
    )
    return objects
  }

  putManifest(tag: string, bytes: Uint8Array): Promise<'created' | 'same'> {
    const path = this.#files.path('manifests', tag)
    return this.#files.run('writing a manifest', async () => {
      await this.#files.createFolder(dirname(path))
      if (await this.#files.create(path, [bytes])) return 'created'
      if ((await this.#files.read(path))?.equals(bytes)) return 'same'
      throw contentConflict(`Manifest ${tag}`, this.#files.url)
    })
  }

  readManifest(tag: string): Promise<Uint8Array | null> {
    return this.#files.run('reading a manifest', () => this.#files.read(this.#files.path('manifests', tag)))
  }

  listManifests(): Promise<string[]> {
    return this.#files.run('listing manifests', async () =>
      (await this.#files.list(this.#files.path('manifests'))).filter(isTag),
    )
  }

  deleteManifest(tag: string): Promise<void> {
    return this.#files.run('deleting a manifest', () => this.#files.remove(this.#files.path('manifests', tag)))
  }

  generations(): Promise<Array<{ generation: string; begunAt: Date }>> {
    return this.#files.run('listing generations', async () => {
      await this.#files.removeLeftOvers()
      const found: Array<{ generation: string; begunAt: Date }> = []
      for (const generation of (await this.#files.list(this.#files.path('packs'))).filter(isGeneration)) {
        const begun = await this.#files.read(this.#files.path('packs', generation, 'begun'))
        const begunAt = new Date(begun?.toString() ?? Number.NaN)
        if (!Number.isNaN(begunAt.getTime())) {
          found.push({ generation, begunAt })
          continue
        }
        // Its writer died between creating the folder and the file.
        const stat = await this.#files.fs.stat(this.#files.path('packs', generation)).catch(absentAs(null))
        if (stat !== null) found.push({ generation, begunAt: stat.mtime })
      }
      return found
    })
  }

  deleteUnits(locations: readonly Location[]): Promise<void> {
    const paths = new Set(locations.map(({ generation, pack }) => this.#packPath(generation, pack)))
    return this.#files.run('deleting packs', async () => {
      await this.#packs.forget((path) => paths.has(path))
      for (const path of paths) await this.#files.remove(path)
    })
  }

  deleteGeneration(generation: string): Promise<void> {
    const folder = this.#files.path('packs', generation)
    return this.#files.run('deleting a generation', async () => {
      await this.#packs.forget((path) => dirname(path) === folder)
      await this.#files.removeFolder(folder)
    })
  }

  close(): Promise<void> {
    return this.#packs.close()
  }

  #packPath(generation: string, pack: number): string {
    return this.#files.path('packs', generation, `${pack}`)
  }
}
