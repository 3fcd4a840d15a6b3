import type { Location } from '../../schemas/manifest.ts'
import type { DataStore, GenerationWriter } from '../../src/stores/ports.ts'

/** A data store in memory, for tests of the codec and the builder; it counts what is asked of it. */
export class MemoryStore implements DataStore {
  readonly layout: DataStore['layout']
  readonly objects = new Map<string, Uint8Array>()
  readonly manifests = new Map<string, Uint8Array>()
  puts = 0
  reads: Location[] = []

  constructor(layout: DataStore['layout'] = 'keys') {
    this.layout = layout
  }

  async begin(generation: string): Promise<GenerationWriter> {
    let number = 0
    return {
      generation,
      put: async (objects) => {
        await undefined
        return objects.map((object) => {
          const location = { generation, pack: 0, offset: number++, length: object.length }
          this.objects.set(key(location), object)
          this.puts++
          return location
        })
      },
      finish: async () => undefined,
    }
  }

  async read(locations: readonly Location[]): Promise<Array<Uint8Array | null>> {
    this.reads.push(...locations)
    return locations.map((location) => {
      const object = this.objects.get(key(location))
      return object === undefined || object.length < location.length ? null : object
    })
  }

  async putManifest(tag: string, bytes: Uint8Array): Promise<'created' | 'same'> {
    const same = this.manifests.has(tag)
    this.manifests.set(tag, bytes)
    return same ? 'same' : 'created'
  }

  async readManifest(tag: string): Promise<Uint8Array | null> {
    return this.manifests.get(tag) ?? null
  }

  async listManifests(): Promise<string[]> {
    return [...this.manifests.keys()]
  }

  async deleteManifest(tag: string): Promise<void> {
    this.manifests.delete(tag)
  }

  async generations(): Promise<Array<{ generation: string; begunAt: Date }>> {
    return []
  }

  async deleteUnits(locations: readonly Location[]): Promise<void> {
    const packs = new Set(this.layout === 'packs' ? locations.map(packOf) : [])
    for (const location of locations) this.objects.delete(key(location))
    for (const name of this.objects.keys())
      if (packs.has(name.slice(0, name.lastIndexOf('/')))) this.objects.delete(name)
  }

  async deleteGeneration(generation: string): Promise<void> {
    for (const name of this.objects.keys()) if (name.startsWith(generation)) this.objects.delete(name)
  }
}

function packOf({ generation, pack }: Location): string {
  return `${generation}/${pack}`
}

export function key(location: Location): string {
  return `${location.generation}/${location.pack}/${location.offset}`
}
