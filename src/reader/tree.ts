import type { Location } from '../../schemas/manifest.ts'
import type { Where } from '../snapshot/corrupt.ts'
import {
  type ChildRef,
  decodeLocationPage,
  decodeNode,
  type LocationPage,
  PAGE_BLOCKS,
  rowsAt,
  spanAt,
} from '../snapshot/page.ts'
import type { DataStore } from '../stores/ports.ts'
import type { ByteBudget, Droppable } from './byte-budget.ts'
import { MissingObject } from './missing-object.ts'

/** A node of a location tree, with those of its children that were met before. */
interface Branch {
  level: number
  first: number
  refs: ChildRef[]
  children: Array<TreeObject | undefined>
}

/** What a place in a tree must hold, known before it is read. */
export interface TreeRef {
  ref: ChildRef
  level: number
  first: number
  bits: number
  where: Where
}

/** log2 of the blocks under one child of a node: pages cover 2^8 blocks, nodes 2^9 children. */
const PAGE_SHIFT = Math.log2(PAGE_BLOCKS)
const childShift = (level: number) => PAGE_SHIFT + 9 * (level - 1)

/** Decoded bytes, objects and arrays around them; measured on pages of 256 blocks and nodes of 512 children. */
const PAGE_OVERHEAD_BYTES = 1200
const NODE_CHILD_BYTES = 400

/** A page or node by its location. Unchanged ones are shared by all versions that name them. */
export class TreeObject implements Droppable {
  readonly key: string
  readonly sha256: Buffer
  readonly bytes: number
  used = true
  page: LocationPage | null
  branch: Branch | null

  constructor(key: string, sha256: Buffer, content: LocationPage | Branch) {
    this.key = key
    this.sha256 = sha256
    this.page = 'refs' in content ? null : content
    this.branch = 'refs' in content ? content : null
    this.bytes =
      'refs' in content
        ? content.refs.length * NODE_CHILD_BYTES
        : content.source.length * 18 + content.sources.length * 120 + PAGE_OVERHEAD_BYTES
  }

  drop(): void {
    this.page = null
    this.branch = null
  }
}

/** The content goes along: the object may have been dropped again before its reader runs. */
interface Fetched {
  object: TreeObject
  content: LocationPage | Branch
}

interface Fetch {
  place: TreeRef
  key: string
  settle: PromiseWithResolvers<Fetched>
}

/** Pages and nodes of one store, cached across versions. Each is fetched once, however many ask for it at the same time. */
export class TreeCache {
  readonly #data: DataStore
  readonly #cache: ByteBudget<TreeObject>
  /** Names this store's objects in a cache that several stores share. */
  readonly #prefix: string
  readonly #inFlight = new Map<string, Promise<Fetched>>()
  reads = 0

  constructor(data: DataStore, cache: ByteBudget<TreeObject>, prefix: string) {
    this.#data = data
    this.#cache = cache
    this.#prefix = prefix
  }

  pageNumber(block: number): number {
    return block >>> PAGE_SHIFT
  }

  /** The page of a block when it and all nodes above it are cached; null: `fetchPage` must be asked. */
  cachedPage(root: TreeObject, block: number): LocationPage | null {
    let object: TreeObject | undefined = root
    while (object !== undefined) {
      object.used = true
      if (object.page !== null) return object.page
      const branch: Branch | null = object.branch
      if (branch === null) return null
      object = branch.children[(block - branch.first) >>> childShift(branch.level)]
    }
    return null
  }

  async fetchPage(root: TreeRef, block: number): Promise<LocationPage> {
    let at = root
    let [content] = await this.load([root])
    while (content !== undefined && 'refs' in content) {
      const child = childOf(content, (block - content.first) >>> childShift(content.level), at)
      at = child.ref
      const [next] = await this.load([at])
      this.#link(content, child.row, at)
      content = next
    }
    // `load` answers with one content for each place asked for.
    return content as LocationPage
  }

  /** The object at a place, fetched if need be. Throws MissingObject, or CORRUPT. */
  async object(place: TreeRef): Promise<TreeObject> {
    return this.#find(place) ?? ((await this.#fetch([place])[0]) as Fetched).object
  }

  /** Contents of several places, those not cached in one read. Contents, not objects: an object may be dropped before its reader runs. */
  async load(places: readonly TreeRef[]): Promise<Array<LocationPage | Branch>> {
    const found = places.map((place) => this.#find(place))
    const missing = places.filter((_, at) => found[at] === undefined)
    const fetched = missing.length === 0 ? [] : this.#fetch(missing)
    let next = 0
    return Promise.all(
      found.map(
        async (object) => object?.page ?? object?.branch ?? (await (fetched[next++] as Promise<Fetched>)).content,
      ),
    )
  }

  /**
   * Fetches what of the tree under `after` differs from the tree under `before` where that was cached, so that a reader is as warm
   * after a flip as before it. Stops at `deadline` (performance.now()).
   */
  async warm(before: TreeObject, after: TreeRef, deadline: number): Promise<void> {
    let level: Array<{ before: TreeObject; after: TreeRef }> = [{ before, after }]
    while (level.length > 0) {
      const below: typeof level = []
      for (let from = 0; from < level.length; from += WARM_OBJECTS_A_READ) {
        if (performance.now() >= deadline) return
        const part = level.slice(from, from + WARM_OBJECTS_A_READ)
        const contents = await this.load(part.map((pair) => pair.after))
        for (const [row, content] of contents.entries()) {
          const pair = part[row] as (typeof part)[number]
          const old = pair.before.branch
          if (!('refs' in content) || old === null || old.level !== content.level) continue
          for (const at of content.refs.keys()) {
            const child = childOf(content, at, pair.after)
            const cached = old.children[at]
            if (cached === undefined || (cached.page === null && cached.branch === null)) continue
            if (cached.key === this.#key(child.ref.ref)) content.children[at] = cached
            else below.push({ before: cached, after: child.ref })
          }
        }
      }
      level = below
    }
  }

  #link(branch: Branch, row: number, place: TreeRef): void {
    branch.children[row] = this.#cache.get(this.#key(place.ref))
  }

  #find(place: TreeRef): TreeObject | undefined {
    const object = this.#cache.get(this.#key(place.ref))
    // Two parents that name one location with different checksums: one of them is damaged, reading it again says which.
    if (object === undefined || !object.sha256.equals(place.ref.sha256)) return undefined
    object.used = true
    return object
  }

  /** One read for all that nobody is fetching yet. Each place settles by itself: one that is missing fails only who asked for it. */
  #fetch(places: readonly TreeRef[]): Array<Promise<Fetched>> {
    const mine: Fetch[] = []
    const promises = places.map((place) => {
      const key = this.#key(place.ref)
      const running = this.#inFlight.get(key)
      if (running !== undefined) return running
      const settle = Promise.withResolvers<Fetched>()
      settle.promise.catch(() => undefined) // who asked for it is told through the same promise
      this.#inFlight.set(key, settle.promise)
      mine.push({ place, key, settle })
      return settle.promise
    })
    if (mine.length > 0) void this.#fetchAll(mine)
    return promises
  }

  async #fetchAll(mine: readonly Fetch[]): Promise<void> {
    try {
      this.reads += mine.length
      const stored = await this.#data.read(mine.map(({ place }) => place.ref))
      for (const [at, { place, key, settle }] of mine.entries()) {
        try {
          const content = decode(place, stored[at] ?? null)
          const object = new TreeObject(key, place.ref.sha256, content)
          this.#cache.add(object)
          settle.resolve({ object, content })
        } catch (error) {
          settle.reject(error)
        }
      }
    } catch (error) {
      for (const { settle } of mine) settle.reject(error)
    } finally {
      for (const { key } of mine) this.#inFlight.delete(key)
    }
  }

  #key(location: Location): string {
    return `${this.#prefix}${location.generation}/${location.pack}/${location.offset}`
  }
}

/** One read's worth of pages: about a megabyte. */
const WARM_OBJECTS_A_READ = 256

function childOf(branch: Branch, row: number, parent: TreeRef): { row: number; ref: TreeRef } {
  const level = branch.level - 1
  const ref = branch.refs[row] as ChildRef
  return {
    row,
    ref: { ref, level, first: branch.first + row * spanAt(level), bits: parent.bits, where: parent.where },
  }
}

function decode(place: TreeRef, stored: Uint8Array | null): LocationPage | Branch {
  const { ref, level, first, bits, where } = place
  if (stored === null)
    throw new MissingObject(
      where,
      level === 0 ? `location page at block ${first}` : `location node at block ${first}, level ${level}`,
    )
  const expected = { kind: 'location' as const, level, first, rows: rowsAt(bits, level, first), sha256: ref.sha256 }
  if (level === 0) return decodeLocationPage(stored, expected, where)
  const { children } = decodeNode(stored, expected, where)
  // Views into what was read would keep all of it alive; 32 bytes a child do not.
  const refs = children.map((child) => ({ ...child, sha256: Buffer.from(child.sha256) }))
  return { level, first, refs, children: new Array(refs.length).fill(undefined) }
}
