import { decodeManifest } from '../snapshot/manifest.ts'
import type { Store } from '../stores/ports.ts'

/** Stored bytes that are alive in a version, by generation and pack. */
type Alive = ReadonlyMap<string, number>

/** Adds up what the versions of a dataset need in its store, from their manifests: each is read once, since it never changes. */
export class StoreBytes {
  #read = new Map<string, Alive>()

  /**
   * What a version has alive of a generation, the versions it was built on have too: so the most that any kept version has alive of it is what
   * all of them need. A manifest that is gone meanwhile needs nothing.
   */
  async of(store: Store, dataset: string, kept: ReadonlyArray<{ tag: string; manifest: string }>): Promise<number> {
    const read = new Map<string, Alive>()
    const needed = new Map<string, number>()
    for (const { tag, manifest } of kept) {
      const alive = this.#read.get(manifest) ?? (await aliveIn(store, dataset, tag, manifest))
      if (alive === null) continue
      read.set(manifest, alive)
      for (const [pack, bytes] of alive) needed.set(pack, Math.max(needed.get(pack) ?? 0, bytes))
    }
    this.#read = read
    return [...needed.values()].reduce((sum, bytes) => sum + bytes, 0)
  }
}

async function aliveIn(store: Store, dataset: string, tag: string, sha256: string): Promise<Alive | null> {
  const bytes = await store.data.readManifest(tag)
  if (bytes === null) return null
  const { sources } = decodeManifest(bytes, { dataset, tag, sha256 })
  return new Map(sources.map(({ generation, pack, bytes }) => [`${generation}/${pack}`, bytes]))
}
