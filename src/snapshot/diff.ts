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

/** Whether entries of the two can be matched by key, place by place. */
export function isComparable(left: IndexManifest, right: IndexManifest): boolean {
  return left.kind === right.kind && left.seed === right.seed
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
  if (!isComparable(left, right)) return { ...diff, comparable: false, inserted: right.count, deleted: left.count }
  for await (const { blocksRead, units } of differingUnits(data, a, b, signal)) {
    diff.blocksRead += blocksRead
    for (const unit of units) diffEntries(diff, unit, left.kind === 'many')
  }
  return diff
}

/** The entries of both sides that belong to one hash range. */
interface Unit {
  left: EntryAt[]
  right: EntryAt[]
}

/** Of two comparable indexes the hash ranges that may differ, some at a time; each key is in one of them. */
export async function* differingUnits(
  data: DataStore,
  a: { where: Where; index: IndexManifest },
  b: { where: Where; index: IndexManifest },
  signal: AbortSignal,
): AsyncGenerator<{ blocksRead: number; units: Unit[] }> {
  const [left, right] = [a.index, b.index]
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
    const units = Array.from(new Set([...unitsA.units.keys(), ...unitsB.units.keys()]), (key) => ({
      left: unitsA.units.get(key) ?? [],
      right: unitsB.units.get(key) ?? [],
    }))
    return { blocksRead: unitsA.blocks + unitsB.blocks, units }
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
      yield await compare(pagesA, pagesB, rows, rows, (block) => block)
    }
    return
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
    yield await compare(pagesA, pagesB, coverA.rows, coverB.rows, (block, own) => Math.floor(block / 2 ** (own - bits)))
  }
}

/** An entry where it lies in its block. */
export interface EntryAt {
  raw: Buffer
  at: number
  keyEnd: number
  valueStart: number
  end: number
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
      eachEntry(raw, many, item.block, where, (at, _keyStart, keyEnd, valueStart, end) =>
        entries.push({ raw, at, keyEnd, valueStart, end }),
      )
    }
  return { units, blocks }
}

/** Counts by key: of entries removed and added under one key, pairs are updates. */
function diffEntries(diff: IndexDiff, unit: Unit, many: boolean): void {
  for (const { removed, added } of changedKeys(unit, many)) {
    const both = Math.min(removed.length, added.length)
    diff.updated += both
    diff.inserted += added.length - both
    diff.deleted += removed.length - both
    if (diff.sample.length < SAMPLE_KEYS)
      diff.sample.push({
        key: keyOf((removed[0] ?? added[0]) as EntryAt).toString('utf8'),
        change: both > 0 ? 'updated' : added.length > 0 ? 'inserted' : 'deleted',
      })
  }
}

/** Keys of a unit whose entries differ: those that the left has alone, and those that the right has alone, each in the order of its bytes. */
export function changedKeys({ left, right }: Unit, many: boolean): Iterable<{ removed: EntryAt[]; added: EntryAt[] }> {
  const order = (x: EntryAt, y: EntryAt) => compareEntries(x.raw, x.at, y.raw, y.at, many)
  left.sort(order)
  right.sort(order)
  const changes = new Map<string, { removed: EntryAt[]; added: EntryAt[] }>()
  const note = (entry: EntryAt, side: 'removed' | 'added') => {
    const id = keyOf(entry).toString('latin1')
    const change = changes.get(id) ?? { removed: [], added: [] }
    change[side].push(entry)
    changes.set(id, change)
  }
  let i = 0
  let j = 0
  while (i < left.length || j < right.length) {
    const [x, y] = [left[i], right[j]]
    const turn = x === undefined ? 1 : y === undefined ? -1 : order(x, y)
    if (turn < 0) note(left[i++] as EntryAt, 'removed')
    else if (turn > 0) note(right[j++] as EntryAt, 'added')
    else {
      i++
      j++
    }
  }
  return changes.values()
}

export const keyOf = ({ raw, at, keyEnd }: EntryAt): Buffer => raw.subarray(at + 4, keyEnd)
