import type { IndexManifest, Location, Manifest } from '../../schemas/manifest.ts'
import type { DataStore } from '../stores/ports.ts'
import { eachEntry, lookup, lookupMany, openBlock } from './block.ts'
import { corrupt, type Where } from './corrupt.ts'
import { ADD, type EntrySource } from './entry.ts'
import { blockOf, hashKey, parseHex64 } from './hash.ts'
import { type LocationPage, locationAt, PAGE_BLOCKS, pageCount, spanAt } from './page.ts'
import { prefetch } from './prefetch.ts'
import { type SourceDelta, SourceTally } from './sources.ts'
import { PAGE_BATCH, Tree } from './tree.ts'

/** Bytes of blocks read at a time; the next batch is read while one is worked on. */
const READ_BYTES = 2 << 20
/** Pages whose blocks are planned at a time: page reads that one small block each needs must not become one round trip each. */
const PLAN_PAGES = 16

/** A stored block and what its location page says of it. */
export interface StoredBlock {
  block: number
  location: Location
  checksum: bigint
  /** Null: the store lacks it, or has fewer bytes. */
  stored: Uint8Array | null
}

/** Entries of a block as found by a look-up. */
export interface Entry {
  key: Buffer
  /** `many` indexes only. */
  order: Buffer | null
  value: Buffer
}

function* batches(wanted: Iterable<Omit<StoredBlock, 'stored'>>): Generator<Array<Omit<StoredBlock, 'stored'>>> {
  let batch: Array<Omit<StoredBlock, 'stored'>> = []
  let bytes = 0
  for (const item of wanted) {
    batch.push(item)
    bytes += item.location.length
    if (bytes < READ_BYTES) continue
    yield batch
    batch = []
    bytes = 0
  }
  if (batch.length > 0) yield batch
}

function* rowsOf(pages: readonly LocationPage[], rows?: ReadonlySet<number>): Generator<Omit<StoredBlock, 'stored'>> {
  for (const page of pages)
    for (let row = 0; row < page.source.length; row++) {
      if (rows !== undefined && !rows.has(page.first + row)) continue
      const location = locationAt(page, row)
      if (location !== null) yield { block: page.first + row, location, checksum: page.checksum[row] as bigint }
    }
}

/** Reads the stored bytes of what these pages name, in batches of bounded bytes, one batch ahead. Blocks without entries are left out. */
export async function* readPages(
  data: DataStore,
  pages: readonly LocationPage[],
  only?: ReadonlySet<number>,
): AsyncGenerator<StoredBlock[]> {
  const read = async function* (): AsyncGenerator<StoredBlock[]> {
    for (const batch of batches(rowsOf(pages, only))) {
      const stored = await data.read(batch.map((item) => item.location))
      yield batch.map((item, i) => ({ ...item, stored: stored[i] ?? null }))
    }
  }
  yield* prefetch(read())
}

/** Checks a block that was read and returns its entries; throws CORRUPT. */
export function openStored(block: StoredBlock, where: Where): Buffer {
  if (block.stored === null)
    throw corrupt(
      where,
      `block ${block.block}`,
      `${block.location.length} bytes in generation ${block.location.generation}`,
      'nothing, or fewer',
    )
  return openBlock(block.stored, block.checksum, block.block, where)
}

/** All blocks of an index in order, checked against their checksums: `[block number, entries]`, in batches. */
export async function* readIndex(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  signal: AbortSignal,
): AsyncGenerator<Array<[number, Buffer]>> {
  const tree = new Tree(data, 'location', index, where)
  const pages = pageCount(index.bits)
  for (let from = 0; from < pages; from += PLAN_PAGES) {
    signal.throwIfAborted()
    const positions = Array.from({ length: Math.min(PLAN_PAGES, pages - from) }, (_, i) => from + i)
    for await (const batch of readPages(data, await tree.locationPages(positions))) {
      signal.throwIfAborted()
      yield batch.map((block) => [block.block, openStored(block, where)])
    }
  }
}

/** A version's index as a source of entries: how an index of events, which no table can rebuild, gets a new layout. */
export function versionSource(data: DataStore, where: Where, index: IndexManifest): EntrySource {
  return {
    async read(sink, signal) {
      for await (const batch of readIndex(data, where, index, signal))
        for (const [block, raw] of batch) {
          eachEntry(raw, index.kind === 'many', block, where, (start, keyStart, keyEnd, _value, end) =>
            sink.entry(ADD, raw, start, end, keyStart, keyEnd),
          )
          await sink.ready()
        }
    },
  }
}

/** The entries of these blocks, in no order. Throws CORRUPT. */
export async function readBlocks(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  blocks: Iterable<number>,
): Promise<Map<number, Buffer>> {
  const found = new Map<number, Buffer>()
  for await (const batch of eachBlock(data, where, index, new Set(blocks)))
    for (const [block, raw] of batch) found.set(block, raw)
  return found
}

/** The same, a batch at a time. */
async function* eachBlock(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  wanted: ReadonlySet<number>,
): AsyncGenerator<Array<[number, Buffer]>> {
  const pages = [...new Set(Array.from(wanted, (block) => Math.floor(block / PAGE_BLOCKS)))]
  const tree = new Tree(data, 'location', index, where)
  for await (const batch of readPages(data, await tree.locationPages(pages), wanted))
    yield batch.map((block) => [block.block, openStored(block, where)])
}

/** Numbers of blocks drawn at random that hold about so many entries; `random` as Math.random. */
function drawBlocks(index: IndexManifest, entries: number, random: () => number): Set<number> {
  const total = 2 ** index.bits
  const wanted = Math.min(total, Math.max(1, Math.ceil((entries * total) / index.count)))
  const blocks = new Set<number>()
  // Drawn without replacement; for large shares the loop would spin, so those take all.
  if (wanted > total / 2) for (let block = 0; block < total; block++) blocks.add(block)
  else while (blocks.size < wanted) blocks.add(Math.floor(random() * total))
  return blocks
}

/** About `entries` entries, by whole blocks drawn at random, a batch at a time; all of an index that has no more. */
export async function* sampleEntries(
  data: DataStore,
  { where, index }: { where: Where; index: IndexManifest },
  entries: number,
  random: () => number = Math.random,
): AsyncGenerator<KeyAndValue[]> {
  if (index.count === 0) return
  for await (const batch of eachBlock(data, where, index, drawBlocks(index, entries, random)))
    yield batch.flatMap(([block, raw]) => entriesOf(index, where, block, raw))
}

/** All entries of an index, a batch at a time. */
export async function* readEntries(
  data: DataStore,
  { where, index }: { where: Where; index: IndexManifest },
  signal: AbortSignal,
): AsyncGenerator<KeyAndValue[]> {
  for await (const batch of readIndex(data, where, index, signal))
    yield batch.flatMap(([block, raw]) => entriesOf(index, where, block, raw))
}

export interface KeyAndValue {
  key: Buffer
  value: Buffer
}

function entriesOf(index: IndexManifest, where: Where, block: number, raw: Buffer): KeyAndValue[] {
  const entries: KeyAndValue[] = []
  eachEntry(raw, index.kind === 'many', block, where, (_start, keyStart, keyEnd, valueStart, end) =>
    entries.push({ key: raw.subarray(keyStart, keyEnd), value: raw.subarray(valueStart, end) }),
  )
  return entries
}

/**
 * About `entries` entries from blocks drawn at random, for comparing with the source: of a key in it, all its entries. `random` as Math.random.
 */
export async function sampleBlocks(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  entries: number,
  random: () => number = Math.random,
): Promise<Entry[]> {
  if (index.count === 0) return []
  const blocks = drawBlocks(index, entries, random)
  const sampled: Entry[] = []
  for (const [block, raw] of await readBlocks(data, where, index, blocks))
    eachEntry(raw, index.kind === 'many', block, where, (_start, keyStart, keyEnd, valueStart, end) => {
      const key = raw.subarray(keyStart, keyEnd)
      // A key's entries stand together: once one is in, so are all.
      if (sampled.length < entries * 2 || sampled.at(-1)?.key.equals(key))
        sampled.push({
          key,
          order: index.kind === 'many' ? raw.subarray(keyEnd + 4, valueStart - 4) : null,
          value: raw.subarray(valueStart, end),
        })
    })
  return sampled
}

/** Where a key's values are, and the values: none when the version does not have the key. */
export async function readKey(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  key: Uint8Array,
): Promise<{ block: number; location: Location | null; values: Buffer[] }> {
  const block = blockOf(hashKey(key, 0, key.length, parseHex64(index.seed)), index.bits)
  const [page] = await new Tree(data, 'location', index, where).locationPages([Math.floor(block / PAGE_BLOCKS)])
  const location = locationAt(page as LocationPage, block % PAGE_BLOCKS)
  if (location === null) return { block, location, values: [] }
  const [stored] = await data.read([location])
  const checksum = (page as LocationPage).checksum[block % PAGE_BLOCKS] as bigint
  const raw = openStored({ block, location, checksum, stored: stored ?? null }, where)
  return { block, location, values: valuesIn(index, raw, key) }
}

/** Those of the keys that the version does not have; their blocks are read together. */
export async function missingKeys(
  data: DataStore,
  { where, index }: { where: Where; index: IndexManifest },
  keys: readonly Buffer[],
): Promise<Buffer[]> {
  const seed = parseHex64(index.seed)
  const wanted = keys.map((key) => ({ key, block: blockOf(hashKey(key, 0, key.length, seed), index.bits) }))
  const blocks = await readBlocks(
    data,
    where,
    index,
    wanted.map(({ block }) => block),
  )
  return wanted.flatMap(({ key, block }) => (valuesIn(index, blocks.get(block), key).length === 0 ? [key] : []))
}

function valuesIn({ kind }: IndexManifest, raw: Buffer | undefined, key: Uint8Array): Buffer[] {
  if (raw === undefined) return []
  if (kind === 'many') return lookupMany(raw, key)
  const value = lookup(raw, key)
  return value === undefined ? [] : [value]
}

/** Live objects and bytes of one index by (generation, pack), counted from its trees. */
export async function indexSources(data: DataStore, where: Where, index: IndexManifest): Promise<SourceDelta[]> {
  const tally = new SourceTally()
  const location = new Tree(data, 'location', index, where)
  const audit = new Tree(data, 'audit', index, where)
  for (const tree of [location, audit])
    for (let level = tree.depth; level >= 0; level--)
      for (const positions of positionsAt(index.bits, level))
        for (const ref of await tree.refs(level, positions)) tally.count(ref, 1)
  for (const positions of positionsAt(index.bits, 0))
    for (const item of rowsOf(await location.locationPages(positions))) tally.count(item.location, 1)
  return tally.deltas()
}

/** Positions of all objects of a level, in batches. */
export function* positionsAt(bits: number, level: number): Generator<number[]> {
  const objects = Math.ceil(2 ** bits / spanAt(level))
  for (let from = 0; from < objects; from += PAGE_BATCH)
    yield Array.from({ length: Math.min(PAGE_BATCH, objects - from) }, (_, i) => from + i)
}

/**
 * The `sources` of a new manifest from its parent's and what each index's build added and took. Indexes that were dropped, or built
 * in full over a parent's, are counted from their pages; where every index was built in full, the parent is not asked: it may be damaged.
 */
export async function manifestSources(
  data: DataStore,
  dataset: string,
  parent: Manifest | null,
  builds: Record<string, { index: Pick<IndexManifest, 'build'>; sources: readonly SourceDelta[] }>,
): Promise<Manifest['sources']> {
  const tally = new SourceTally()
  const base = Object.values(builds).every((build) => build.index.build === 'full') ? null : parent
  tally.fold(base?.sources ?? [])
  for (const [name, index] of Object.entries(base?.indexes ?? {})) {
    const build = builds[name]
    if (build === undefined || build.index.build === 'full')
      tally.fold(await indexSources(data, { dataset, index: name }, index), -1)
  }
  for (const build of Object.values(builds)) tally.fold(build.sources)
  return tally.deltas().filter((source) => source.objects > 0)
}
