import type { IndexManifest, Location, Manifest } from '../../schemas/manifest.ts'
import type { DataStore, GenerationWriter } from '../stores/ports.ts'
import { blockChecksum } from './block.ts'
import { corrupt, type Where } from './corrupt.ts'
import { sharesLayout } from './differences.ts'
import { sha256 } from './hash.ts'
import { ObjectQueue } from './object-queue.ts'
import {
  type AuditPage,
  type ChildRef,
  emptyLocationPage,
  encodeAuditPage,
  encodeLocationPage,
  type LocationPage,
  locationAt,
  PAGE_BLOCKS,
  setLocation,
  type TreeKind,
} from './page.ts'
import { manifestSources, positionsAt, readPages, type StoredBlock } from './read.ts'
import { planRepack, type RepackPlan, repackBlocks } from './repack.ts'
import { type SourceDelta, SourceTally } from './sources.ts'
import { Tree } from './tree.ts'
import { writeTree } from './write-tree.ts'

/** Pages copied at a time. */
const PAGES = 16

export interface CopyOptions {
  from: { data: DataStore; manifest: Manifest }
  /** `base`: a version that lies there whole; what it has is not copied again. */
  to: { data: DataStore; writer: GenerationWriter; base: Manifest | null }
  signal: AbortSignal
  onProgress?: (progress: { blocksWritten: number; bytesWritten: number }) => void
}

export interface CopyResult {
  /** Says the same of the version's content as that it was copied from, and where it lies here. Not put yet. */
  manifest: Manifest
  blocksWritten: number
  /** All objects put: blocks, pages, nodes. */
  bytesWritten: number
}

/**
 * Copies a version into another store, copy on write upon one that lies there: blocks are the same bytes in every store, so the hashes that the
 * audit pages keep of them tell which differ, and only those are read. The pages are written anew, since they say where a block lies.
 *
 * @throws SnapflipError CORRUPT when the version is not whole where it is copied from.
 */
export async function copyVersion({ from, to, signal, onProgress }: CopyOptions): Promise<CopyResult> {
  const { manifest } = from
  const { dataset, tag } = manifest
  const queue = new ObjectQueue(to.writer)
  const plan = to.base === null ? new Set<string>() : planRepack(to.data.layout, to.base)
  const builds: Record<string, { index: IndexManifest; sources: SourceDelta[] }> = {}
  let blocksWritten = 0
  for (const [name, index] of Object.entries(manifest.indexes)) {
    const former = to.base?.indexes[name]
    const copy = new IndexCopy({
      where: { dataset, index: name, tag },
      from: { data: from.data, index },
      to: { data: to.data, base: former !== undefined && sharesLayout(index, former) ? former : null },
      plan,
      queue,
      signal,
      onCopied: (blocks) => {
        blocksWritten += blocks
        onProgress?.({ blocksWritten, bytesWritten: queue.bytes })
      },
    })
    builds[name] = await copy.run()
  }
  const generation = queue.objects > 0 || to.base === null ? to.writer.generation : to.base.generation
  const indexes = Object.fromEntries(Object.entries(builds).map(([name, build]) => [name, build.index]))
  const copied = Object.fromEntries(
    Object.entries(builds).map(([name, { sources }]) => [
      name,
      { index: { build: isBuiltUpon(name) ? 'incremental' : 'full' } as const, sources },
    ]),
  )
  const sources = await manifestSources(to.data, dataset, to.base, copied)
  return { manifest: { ...manifest, generation, indexes, sources }, blocksWritten, bytesWritten: queue.bytes }

  function isBuiltUpon(name: string): boolean {
    const former = to.base?.indexes[name]
    return former !== undefined && sharesLayout(manifest.indexes[name] as IndexManifest, former)
  }
}

type Trees = Record<TreeKind, Tree>

interface IndexCopyOptions {
  where: Where
  from: { data: DataStore; index: IndexManifest }
  to: { data: DataStore; base: IndexManifest | null }
  plan: RepackPlan
  queue: ObjectQueue
  signal: AbortSignal
  onCopied: (blocks: number) => void
}

class IndexCopy {
  readonly #options: IndexCopyOptions
  readonly #source: Trees
  readonly #base: Trees | null
  readonly #sources = new SourceTally()
  readonly #leaves = { location: new Map<number, ChildRef>(), audit: new Map<number, ChildRef>() }

  constructor(options: IndexCopyOptions) {
    const { where, from, to } = options
    this.#options = options
    const trees = (data: DataStore, index: IndexManifest, of: Where): Trees => ({
      location: new Tree(data, 'location', index, of),
      audit: new Tree(data, 'audit', index, of),
    })
    this.#source = trees(from.data, from.index, where)
    this.#base = to.base === null ? null : trees(to.data, to.base, { dataset: where.dataset, index: where.index })
  }

  async run(): Promise<{ index: IndexManifest; sources: SourceDelta[] }> {
    const { where, from, to, plan, queue, signal } = this.#options
    const moved = new Set(to.base === null ? [] : await repackBlocks(to.data, where, to.base, plan))
    for (const positions of positionsAt(from.index.bits, 0)) {
      const pages = await this.#differing(positions, moved)
      for (let at = 0; at < pages.length; at += PAGES) {
        signal.throwIfAborted()
        await this.#copyPages(pages.slice(at, at + PAGES), moved)
      }
    }
    // Only then the pages have their places.
    await queue.drain()
    const unchanged = this.#leaves.location.size === 0 && to.base !== null
    const trees = unchanged
      ? { location: to.base?.location, audit: to.base?.audit }
      : { location: await this.#writeTree('location'), audit: await this.#writeTree('audit') }
    return { index: { ...from.index, ...trees } as IndexManifest, sources: this.#sources.deltas() }
  }

  /** Audit pages say nothing of places: those of equal content are equal bytes in every store. */
  async #differing(positions: readonly number[], moved: ReadonlySet<number>): Promise<number[]> {
    if (this.#base === null) return [...positions]
    const touched = new Set(Array.from(moved, (block) => Math.floor(block / PAGE_BLOCKS)))
    const [here, there] = await Promise.all([
      this.#source.audit.refs(0, positions),
      this.#base.audit.refs(0, positions),
    ])
    return positions.filter(
      (position, i) => touched.has(position) || !here[i]?.sha256.equals(there[i]?.sha256 as Buffer),
    )
  }

  async #copyPages(positions: readonly number[], moved: ReadonlySet<number>): Promise<void> {
    const { from, queue, onCopied } = this.#options
    const [locations, audits, bases, baseAudits] = await Promise.all([
      this.#source.location.locationPages(positions),
      this.#source.audit.auditPages(positions),
      this.#base?.location.locationPages(positions) ?? [],
      this.#base?.audit.auditPages(positions) ?? [],
    ])
    const wanted = new Set<number>()
    const drafts = new Map<number, LocationPage>()
    locations.forEach((page, i) => {
      const rows = page.source.length
      const draft = emptyLocationPage(page.first, rows)
      drafts.set(positions[i] as number, draft)
      for (let row = 0; row < rows; row++) {
        const block = page.first + row
        const former = bases[i] === undefined ? null : locationAt(bases[i], row)
        const isSame = former !== null && sameBlock(audits[i] as AuditPage, baseAudits[i] as AuditPage, row)
        if (isSame && !moved.has(block)) {
          setLocation(draft, row, former, page.checksum[row] as bigint)
          continue
        }
        if (former !== null) this.#sources.count(former, -1)
        if (locationAt(page, row) !== null) wanted.add(block)
      }
    })
    for await (const batch of readPages(from.data, locations, wanted)) {
      for (const block of batch) this.#putBlock(block, drafts)
      onCopied(batch.length)
      await queue.ready()
    }
    await queue.drain()
    positions.forEach((position, i) => {
      this.#putPage('location', position, encodeLocationPage(drafts.get(position) as LocationPage))
      this.#putPage('audit', position, encodeAuditPage(audits[i] as AuditPage))
    })
  }

  #putBlock({ block, location, checksum, stored }: StoredBlock, drafts: ReadonlyMap<number, LocationPage>): void {
    if (stored === null || blockChecksum(stored) !== checksum) {
      const found = stored === null ? 'nothing, or fewer' : 'other bytes'
      const expected = `${location.length} bytes in generation ${location.generation}, of checksum ${checksum}`
      throw corrupt(this.#options.where, `block ${block}`, expected, found)
    }
    const draft = drafts.get(Math.floor(block / PAGE_BLOCKS)) as LocationPage
    this.#put(stored, (place) => setLocation(draft, block % PAGE_BLOCKS, place, checksum))
  }

  #putPage(kind: TreeKind, position: number, page: Buffer): void {
    this.#put(page, (place) => this.#leaves[kind].set(position, { ...place, sha256: sha256(page) }))
  }

  #put(object: Uint8Array, placed: (location: Location) => void): void {
    this.#options.queue.add(object, (location) => {
      this.#sources.count(location, 1)
      placed(location)
    })
  }

  #writeTree(kind: TreeKind): Promise<IndexManifest['location']> {
    const { from, queue } = this.#options
    const parent = this.#base?.[kind]
    const leaves = this.#leaves[kind]
    return writeTree({ kind, bits: from.index.bits, leaves, parent, queue, sources: this.#sources })
  }
}

/** By the SHA-256 of its stored bytes. */
function sameBlock(a: AuditPage, b: AuditPage, row: number): boolean {
  const at = row * 16
  return a.sha.compare(b.sha, at, at + 16, at, at + 16) === 0
}
