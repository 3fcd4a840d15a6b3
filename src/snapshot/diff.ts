import type { IndexManifest, Location } from '../../schemas/manifest.ts'
import type { DataStore } from '../stores/ports.ts'
import { eachEntry } from './block.ts'
import type { Where } from './corrupt.ts'
import { compareEntries } from './entry-order.ts'
import { type LocationPage, NODE_CHILDREN, PAGE_BLOCKS } from './page.ts'
import { openStored, readPages } from './read.ts'
import { sameObject, Tree } from './tree.ts'

/** Keys kept as samples of what differs. */
const SAMPLE_KEYS = 10
/** Coarse blocks compared at a time when two layouts differ. */
const COARSE_BATCH = 256

export interface IndexDiff {
  inserted: number
  updated: number
  deleted: number
  /** False when the two cannot be matched by key (another kind or seed): everything counts as deleted and inserted. */
  comparable: boolean
  /** Blocks read on either side. */
  blocksRead: number
  sample: Array<{ key: string; change: 'inserted' | 'updated' | 'deleted' }>
}

/** Pages of the second tree that differ from the first's, by position; both must have the same layout. */
async function differingPages(a: Tree, b: Tree): Promise<number[]> {
  if (sameObject(a.root, b.root)) return []
  let positions = [0]
  for (let level = a.depth; level > 0; level--) {
    const [left, right] = await Promise.all([a.nodes(level, positions), b.nodes(level, positions)])
    positions = positions.flatMap((position, i) => {
      const others = right[i]?.children ?? []
      return (left[i]?.children ?? []).flatMap((child, n) =>
        sameObject(child, others[n] as Location) ? [] : [position * NODE_CHILDREN + n],
      )
    })
  }
  return positions
}

/** What changed from `a` to `b`. Equal parts are skipped by their places and checksums, unread. */
export async function diffIndex(
  data: DataStore,
  a: { where: Where; index: IndexManifest },
  b: { where: Where; index: IndexManifest },
  signal: AbortSignal,
): Promise<IndexDiff> {
  const diff: IndexDiff = { inserted: 0, updated: 0, deleted: 0, comparable: true, blocksRead: 0, sample: [] }
  const [left, right] = [a.index, b.index]
  const sameContent =
    left.kind === right.kind &&
    left.count === right.count &&
    left.sums[0] === right.sums[0] &&
    left.sums[1] === right.sums[1]
  if (sameContent) return diff
  if (left.kind !== right.kind || left.seed !== right.seed)
    return { ...diff, comparable: false, inserted: right.count, deleted: left.count }
  const [treeA, treeB] = [new Tree(data, 'location', left, a.where), new Tree(data, 'location', right, b.where)]
  const many = left.kind === 'many'
  const compare = async (
    pagesA: LocationPage[],
    pagesB: LocationPage[],
    rowsA: Set<number>,
    rowsB: Set<number>,
    unit: (block: number, bits: number) => number,
  ) => {
    const [unitsA, unitsB] = await Promise.all([
      gather(data, a.where, pagesA, rowsA, many, (block) => unit(block, left.bits)),
      gather(data, b.where, pagesB, rowsB, many, (block) => unit(block, right.bits)),
    ])
    diff.blocksRead += unitsA.blocks + unitsB.blocks
    for (const key of new Set([...unitsA.units.keys(), ...unitsB.units.keys()]))
      diffEntries(diff, unitsA.units.get(key) ?? [], unitsB.units.get(key) ?? [], many)
  }

  if (left.bits === right.bits) {
    const pages = await differingPages(treeA, treeB)
    for (let from = 0; from < pages.length; from += 16) {
      signal.throwIfAborted()
      const positions = pages.slice(from, from + 16)
      const [pagesA, pagesB] = await Promise.all([treeA.locationPages(positions), treeB.locationPages(positions)])
      const rows = new Set<number>()
      pagesA.forEach((page, i) => {
        const other = pagesB[i] as LocationPage
        page.checksum.forEach((checksum, row) => {
          if (checksum !== other.checksum[row] || page.length[row] !== other.length[row]) rows.add(page.first + row)
        })
      })
      await compare(pagesA, pagesB, rows, rows, (block) => block)
    }
    return diff
  }

  // Another layout of the same hash: one block of the coarser one covers whole blocks of the finer one.
  const bits = Math.min(left.bits, right.bits)
  const pagesCovering = (index: IndexManifest, first: number, end: number) => {
    const scale = 2 ** (index.bits - bits)
    const [from, to] = [Math.floor((first * scale) / PAGE_BLOCKS), Math.ceil((end * scale) / PAGE_BLOCKS)]
    return {
      pages: Array.from({ length: to - from }, (_, i) => from + i),
      rows: new Set(Array.from({ length: (end - first) * scale }, (_, i) => first * scale + i)),
    }
  }
  for (let first = 0; first < 2 ** bits; first += COARSE_BATCH) {
    signal.throwIfAborted()
    const end = Math.min(2 ** bits, first + COARSE_BATCH)
    const [coverA, coverB] = [pagesCovering(left, first, end), pagesCovering(right, first, end)]
    const [pagesA, pagesB] = await Promise.all([treeA.locationPages(coverA.pages), treeB.locationPages(coverB.pages)])
    await compare(pagesA, pagesB, coverA.rows, coverB.rows, (block, own) => Math.floor(block / 2 ** (own - bits)))
  }
  return diff
}

interface EntryAt {
  raw: Buffer
  at: number
  end: number
  keyEnd: number
}

async function gather(
  data: DataStore,
  where: Where,
  pages: LocationPage[],
  rows: Set<number>,
  many: boolean,
  unit: (block: number) => number,
): Promise<{ units: Map<number, EntryAt[]>; blocks: number }> {
  const units = new Map<number, EntryAt[]>()
  let blocks = 0
  for await (const batch of readPages(data, pages, rows))
    for (const item of batch) {
      blocks++
      const raw = openStored(item, where)
      const entries = units.get(unit(item.block)) ?? []
      units.set(unit(item.block), entries)
      eachEntry(raw, many, item.block, where, (at, _keyStart, keyEnd, _valueStart, end) =>
        entries.push({ raw, at, end, keyEnd }),
      )
    }
  return { units, blocks }
}

/** Counts by key: of entries removed and added under one key, pairs are updates. */
function diffEntries(diff: IndexDiff, a: EntryAt[], b: EntryAt[], many: boolean): void {
  const order = (x: EntryAt, y: EntryAt) => compareEntries(x.raw, x.at, y.raw, y.at, many)
  a.sort(order)
  b.sort(order)
  const changes = new Map<string, { removed: number; added: number; key: string }>()
  const note = (entry: EntryAt, side: 'removed' | 'added') => {
    const id = entry.raw.toString('latin1', entry.at + 4, entry.keyEnd)
    const change = changes.get(id) ?? {
      removed: 0,
      added: 0,
      key: entry.raw.toString('utf8', entry.at + 4, entry.keyEnd),
    }
    change[side]++
    changes.set(id, change)
  }
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    const [x, y] = [a[i], b[j]]
    const turn = x === undefined ? 1 : y === undefined ? -1 : order(x, y)
    if (turn < 0) note(a[i++] as EntryAt, 'removed')
    else if (turn > 0) note(b[j++] as EntryAt, 'added')
    else {
      i++
      j++
    }
  }
  for (const { removed, added, key } of changes.values()) {
    const both = Math.min(removed, added)
    diff.updated += both
    diff.inserted += added - both
    diff.deleted += removed - both
    if (diff.sample.length < SAMPLE_KEYS)
      diff.sample.push({ key, change: both > 0 ? 'updated' : added > 0 ? 'inserted' : 'deleted' })
  }
}
