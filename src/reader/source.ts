import type { VersionRef } from '../../schemas/pointer.ts'
import type { Store } from '../stores/ports.ts'
import { type BlockCache, BlockReader } from './block-reader.ts'
import type { ByteBudget } from './byte-budget.ts'
import { type Counting, noCounts } from './tally.ts'
import { TreeCache, type TreeObject } from './tree.ts'
import { type OpenVersion, openVersion, type VersionSource } from './version.ts'

/** One of the stores a reader may answer from, with what is cached of it. */
export class Source implements VersionSource {
  readonly dataset: string
  readonly store: Store
  readonly tree: TreeCache
  readonly blocks: BlockReader
  readonly counting: Counting
  /** Before this time (performance.now()) the reader does not try to come back to it. */
  restUntil = 0
  #damaged = { manifest: '', until: 0 }
  readonly #opening = new Map<string, Promise<OpenVersion>>()

  constructor(
    dataset: string,
    store: Store,
    caches: { pages: ByteBudget<TreeObject>; blocks: BlockCache | null },
    name: string,
    counting: Counting = { all: noCounts(), recent: null },
  ) {
    this.dataset = dataset
    this.store = store
    this.counting = counting
    this.tree = new TreeCache(store.data, caches.pages, name)
    this.blocks = new BlockReader(store.data, caches.blocks, name)
  }

  get data(): Store['data'] {
    return this.store.data
  }

  /** The version is not taken from this store again before `until`. */
  leaveDamaged(version: VersionRef, until: number): void {
    this.#damaged = { manifest: version.manifest, until }
  }

  isDamaged(version: VersionRef, now: number): boolean {
    return version.manifest === this.#damaged.manifest && now < this.#damaged.until
  }

  /** Opens a version once for all who want it at the same time. */
  open(
    wanted: { tag: string; manifest?: string },
    before: OpenVersion | null = null,
    warmUntil = 0,
  ): Promise<OpenVersion> {
    const key = `${wanted.tag} ${wanted.manifest ?? ''}`
    const running = this.#opening.get(key)
    if (running !== undefined) return running
    const opening = openVersion(this, wanted, before, warmUntil).finally(() => this.#opening.delete(key))
    this.#opening.set(key, opening)
    return opening
  }
}
