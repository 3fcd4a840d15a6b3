import type { IndexManifest, Location, Manifest } from '../../schemas/manifest.ts'
import { isSnapflipError, type SnapflipError } from '../core/errors.ts'
import type { DataStore } from '../stores/ports.ts'
import type { Where } from './corrupt.ts'
import {
  type ChildRef,
  decodeLocationPage,
  decodeNode,
  type Expected,
  locationAt,
  NODE_CHILDREN,
  rowsAt,
  spanAt,
  type TreeKind,
} from './page.ts'
import { sourceName } from './sources.ts'
import { PAGE_BATCH, rootRef, sameObject } from './tree.ts'

/** Pages whose blocks are compared at a time. */
const BLOCK_PAGES = 16

/** Versions beside the one that is swept. */
export interface OtherVersions {
  /** That stay, the parents of open builds included: nothing they use is deleted. Their pages must be readable, or nothing can be said. */
  readonly retained: readonly Manifest[]
  /**
   * That go as well, after this one: what they share is left to their own sweep, which finds it by their pages. A sweep that was cut off
   * may have begun on them.
   */
  readonly leaving: readonly Manifest[]
  /** Told of pages of leaving versions that cannot be decoded: what only they led to stays until its generation goes. */
  readonly onDamage: (error: SnapflipError) => void
}

/**
 * Deletes what no other version uses. From pages alone: a subtree that another version shares is skipped, in any other an object is dead when
 * no other version has the same one in that position.
 *
 * What leads to an object goes after it, so what an interrupted sweep has left is found by the next: where an object of the version
 * is gone, so is all that only it led to.
 *
 * @throws SnapflipError CORRUPT when a page of a retained version cannot be read; the sweep can be tried again.
 */
export async function sweepVersion(data: DataStore, swept: Manifest, others: OtherVersions): Promise<void> {
  const staying = [...others.retained, ...others.leaving]
  const used = new Set(staying.flatMap(generationsOf))
  const generations = generationsOf(swept).filter((generation) => !used.has(generation))
  const units = data.layout === 'packs' ? deadPacks(swept, staying) : deadObjects(data, swept, others)
  for await (const batch of units) {
    const left = batch.filter(({ generation }) => !generations.includes(generation))
    if (left.length > 0) await data.deleteUnits(left)
  }
  for (const generation of generations) await data.deleteGeneration(generation)
}

function generationsOf(manifest: Manifest): string[] {
  return [...new Set([manifest.generation, ...manifest.sources.map((source) => source.generation)])]
}

async function* deadPacks(swept: Manifest, staying: readonly Manifest[]): AsyncGenerator<Location[]> {
  const alive = new Set(staying.flatMap((manifest) => manifest.sources.map(sourceName)))
  yield swept.sources
    .filter((source) => !alive.has(sourceName(source)))
    .map(({ generation, pack, bytes }) => ({ generation, pack, offset: 0, length: bytes }))
}

async function* deadObjects(data: DataStore, swept: Manifest, others: OtherVersions): AsyncGenerator<Location[]> {
  for (const [name, index] of Object.entries(swept.indexes)) {
    const versionOf = (manifest: Manifest, mayBeGone: boolean): Version[] => {
      const other = manifest.indexes[name]
      // Another layout shares nothing: it was built in full.
      if (other?.bits !== index.bits) return []
      return [{ index: other, where: { dataset: manifest.dataset, index: name, tag: manifest.tag }, mayBeGone }]
    }
    const versions = [
      ...versionOf(swept, true),
      ...others.retained.flatMap((manifest) => versionOf(manifest, false)),
      ...others.leaving.flatMap((manifest) => versionOf(manifest, true)),
    ]
    for (const kind of ['location', 'audit'] as const)
      yield* new DeadTree(data, kind, versions, others.onDamage).objects()
  }
}

/** An index of a version, whose objects may be gone already, or not. */
interface Version {
  readonly index: IndexManifest
  readonly where: Where
  readonly mayBeGone: boolean
}

/** The objects of all versions in one position of their trees: that of the swept one first, and null where nothing is known of it. */
interface Place {
  readonly position: number
  readonly refs: ReadonlyArray<ChildRef | null>
}

/** One tree of an index, walked from its root through all that only the swept version has. */
class DeadTree {
  readonly #data: DataStore
  readonly #kind: TreeKind
  readonly #versions: readonly Version[]
  readonly #onDamage: (error: SnapflipError) => void
  readonly #bits: number
  readonly #depth: number

  /** The swept version comes first. */
  constructor(data: DataStore, kind: TreeKind, versions: readonly Version[], onDamage: (error: SnapflipError) => void) {
    const { index } = versions[0] as Version
    this.#data = data
    this.#kind = kind
    this.#versions = versions
    this.#onDamage = onDamage
    this.#bits = index.bits
    this.#depth = index[kind].depth
  }

  /** What is dead, in batches; what leads to an object comes after it. */
  async *objects(): AsyncGenerator<Location[]> {
    const root = { position: 0, refs: this.#versions.map(({ index }) => rootRef(index[this.#kind])) }
    if (isShared(root.refs)) return
    const above: Location[][] = [[root.refs[0] as Location]]
    let dead: Place[] = [root]
    for (let level = this.#depth; level > 0; level--) {
      const below: Place[] = []
      for (let from = 0; from < dead.length; from += PAGE_BATCH) {
        const places = dead.slice(from, from + PAGE_BATCH)
        const nodes = await this.#read(level, places, decodeNode)
        const found: Place[] = []
        for (const [i, { position }] of places.entries()) {
          const children = nodes.map((ofVersion) => ofVersion[i]?.children)
          for (let n = 0; n < (children[0]?.length ?? 0); n++) {
            const refs = children.map((list) => list?.[n] ?? null)
            if (!isShared(refs)) found.push({ position: position * NODE_CHILDREN + n, refs })
          }
        }
        if (found.length > 0) above.push(found.map(({ refs }) => refs[0] as Location))
        below.push(...found)
      }
      dead = below
    }
    if (this.#kind === 'location') yield* this.#blocks(dead)
    yield* above.reverse()
  }

  async *#blocks(dead: readonly Place[]): AsyncGenerator<Location[]> {
    for (let from = 0; from < dead.length; from += BLOCK_PAGES) {
      const places = dead.slice(from, from + BLOCK_PAGES)
      const pages = await this.#read(0, places, decodeLocationPage)
      const found: Location[] = []
      for (let i = 0; i < places.length; i++) {
        const inPlace = pages.map((ofVersion) => ofVersion[i] ?? null)
        for (let row = 0; row < (inPlace[0]?.source.length ?? 0); row++) {
          const locations = inPlace.map((page) => page && locationAt(page, row))
          const [location] = locations
          if (location && !isShared(locations)) found.push(location)
        }
      }
      if (found.length > 0) yield found
    }
  }

  /** Per version the objects in these places, null where its tree has none to be read. */
  #read<T>(
    level: number,
    places: readonly Place[],
    decode: (stored: Uint8Array | null, expected: Expected, where: Where) => T,
  ): Promise<Array<Array<T | null>>> {
    return Promise.all(
      this.#versions.map(async ({ where, mayBeGone }, v) => {
        const refs = places.flatMap(({ refs }) => refs[v] ?? [])
        const stored = (await this.#data.read(refs)).values()
        return places.map(({ position, refs }) => {
          const ref = refs[v]
          if (ref == null) return null
          const bytes = stored.next().value ?? null
          if (bytes === null && mayBeGone) return null
          const first = position * spanAt(level)
          const rows = rowsAt(this.#bits, level, first)
          try {
            return decode(bytes, { kind: this.#kind, level, first, rows, sha256: ref.sha256 }, where)
          } catch (error) {
            if (!mayBeGone || !isSnapflipError(error, 'CORRUPT')) throw error
            this.#onDamage(error)
            return null
          }
        })
      }),
    )
  }
}

/** Whether another version has the object of the first. */
function isShared([own, ...others]: ReadonlyArray<Location | null>): boolean {
  return others.some((other) => other !== null && own != null && sameObject(own, other))
}
