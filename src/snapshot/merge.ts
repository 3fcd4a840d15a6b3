import type { IndexManifest, Location } from '../../schemas/manifest.ts'
import { SnapflipError } from '../core/errors.ts'
import type { DataStore, GenerationWriter } from '../stores/ports.ts'
import { BLOCK_BYTES_MAX, blockChecksum, encodeBlock, lengthAt, openBlock } from './block.ts'
import { corrupt, type Where } from './corrupt.ts'
import { ADD, SET } from './entry.ts'
import { compare, compareEntries, compareKeys, entryEnd, valueAt } from './entry-order.ts'
import { addHashAt, hashAt, hashMemory, hex64, parseHex64, sha256 } from './hash.ts'
import { type KeySample, sampleKey } from './key-sample.ts'
import { chooseBits } from './layout.ts'
import { ObjectQueue } from './object-queue.ts'
import {
  type AuditPage,
  type ChildRef,
  emptyAuditPage,
  emptyLocationPage,
  encodeAuditPage,
  encodeLocationPage,
  type LocationPage,
  locationAt,
  PAGE_BLOCKS,
  pageCount,
  rowsAt,
  setLocation,
  type TreeKind,
} from './page.ts'
import { prefetch } from './prefetch.ts'
import {
  netRecords,
  RECORD_HEADER,
  RecordBuffer,
  recordLength,
  type SortedRecords,
  sortByBlock,
  sortRecords,
} from './records.ts'
import { type RepackPlan, repackBlocks } from './repack.ts'
import type { Runs } from './runs.ts'
import { type SourceDelta, SourceTally } from './sources.ts'
import { Tree } from './tree.ts'
import { writeTree } from './write-tree.ts'

/** Parent blocks read at a time; the next batch is read while one is merged. */
const READ_BLOCKS = 256
const READ_BYTES = 4 << 20

export interface MergeOptions {
  where: Where
  runs: Runs
  data: DataStore
  writer: GenerationWriter
  /** Fields of the index's manifest that the builder does not compute. */
  index: Pick<IndexManifest, 'kind' | 'keyParts' | 'seed' | 'shape' | 'reason'>
  /** The index to build on; without it the build is full. Must have the same kind and seed. */
  parent?: IndexManifest
  /** Full builds only: 2^bits blocks. Default: what suits the runs' count and bytes. */
  bits?: number
  /** What to move into this generation (see `planRepack`). */
  repack?: RepackPlan
  blockBytesMax?: number
  signal: AbortSignal
  onProgress?: (progress: MergeProgress) => void
}

export interface MergeProgress {
  /** Of all entries in the runs. */
  entriesDone: number
  blocksWritten: number
  bytesWritten: number
}

export interface MergeResult {
  /** False: the version would hold what its parent holds. Nothing was put. */
  changed: boolean
  index: IndexManifest
  /** Against the parent; a full build inserts everything. `bytes`: entries added and removed, before compression. */
  counts: { inserted: number; updated: number; deleted: number; unchanged: number; bytes: number }
  /** Keys of a unique index with more than one entry. Their blocks are written: a gate refuses the version. */
  duplicates: KeySample
  /** Entries to remove that neither parent nor runs had: a change was missed. */
  missed: KeySample
  sources: SourceDelta[]
  blocksWritten: number
  /** All objects put: blocks, pages, nodes. */
  bytesWritten: number
}

/**
 * Merges runs into an index: one hash range after another is sorted into blocks, folded into the parent's blocks where there is a
 * parent, and written with the pages that changed. What did not change stays where the parent has it.
 */
export async function mergeRuns(options: MergeOptions): Promise<MergeResult> {
  return new Merge(options).run()
}

/** A page being rebuilt. It can be encoded once it is closed and all its blocks are placed. */
interface Draft {
  page: number
  location: LocationPage
  audit: AuditPage
  dirty: boolean
  closed: boolean
  unplaced: number
}

interface LoadedBlock {
  block: number
  /** Stored bytes in the parent; null: it has no entries. */
  stored: Uint8Array | null
}

class Merge {
  readonly #options: MergeOptions
  readonly #runs: Runs
  readonly #many: boolean
  readonly #bits: number
  readonly #parent: { location: Tree; audit: Tree } | undefined
  readonly #queue: ObjectQueue
  readonly #sources = new SourceTally()
  readonly #leaves = { location: new Map<number, ChildRef>(), audit: new Map<number, ChildRef>() }
  readonly #sums = new BigUint64Array(2)
  readonly #blockSums = new BigUint64Array(2)
  readonly #blockBytesMax: number
  #draft: Draft | undefined
  #nextPage = 0
  #contentChanged = false
  #count: number
  #bytes: number
  #bytesChanged = 0
  #inserted = 0
  #updated = 0
  #deleted = 0
  #blocksWritten = 0
  readonly #duplicates: KeySample = { count: 0, keys: [] }
  readonly #missed: KeySample = { count: 0, keys: [] }

  constructor(options: MergeOptions) {
    const { parent, runs, index } = options
    this.#options = options
    this.#runs = runs
    this.#many = index.kind === 'many'
    this.#queue = new ObjectQueue(options.writer)
    this.#bits = parent?.bits ?? options.bits ?? chooseBits(runs.entries, runs.bytes)
    this.#blockBytesMax = options.blockBytesMax ?? BLOCK_BYTES_MAX
    this.#count = parent?.count ?? 0
    this.#bytes = parent?.bytes ?? 0
    if (runs.options.seed !== index.seed || runs.options.kind !== index.kind)
      throw new Error('the runs were made for another seed or kind of index')
    if (parent !== undefined) {
      if (parent.seed !== index.seed || parent.kind !== index.kind)
        throw new Error('an incremental build needs a parent of the same seed and kind')
      this.#sums[0] = parseHex64(parent.sums[0])
      this.#sums[1] = parseHex64(parent.sums[1])
      this.#parent = {
        location: new Tree(options.data, 'location', parent, options.where),
        audit: new Tree(options.data, 'audit', parent, options.where),
      }
    }
  }

  async run(): Promise<MergeResult> {
    const { signal, onProgress, parent, repack } = this.#options
    const moved =
      parent !== undefined && repack !== undefined
        ? await repackBlocks(this.#options.data, this.#options.where, parent, repack)
        : new Uint32Array(0)
    const rangeBits = this.#runs.rangeBits(this.#bits)
    const records = new RecordBuffer()
    let entriesDone = 0
    for (let range = 0; range < 2 ** rangeBits; range++) {
      signal.throwIfAborted()
      await this.#runs.read(rangeBits, range, records)
      const first = range * 2 ** (this.#bits - rangeBits)
      const sorted = sortByBlock(records, this.#bits, first, 2 ** (this.#bits - rangeBits))
      if (this.#parent === undefined) await this.#buildRange(records, sorted)
      else await this.#mergeRange(records, sorted, first, moved, this.#parent)
      entriesDone += sorted.positions.length
      onProgress?.({ entriesDone, blocksWritten: this.#blocksWritten, bytesWritten: this.#queue.bytes })
    }
    if (this.#parent === undefined) await this.#skipTo(pageCount(this.#bits))
    this.#closeDraft()
    await this.#queue.drain()
    return this.#finish()
  }

  async #finish(): Promise<MergeResult> {
    const { index, parent } = this.#options
    const changed = parent === undefined || this.#contentChanged
    const trees =
      this.#leaves.location.size === 0 && parent !== undefined
        ? { location: parent.location, audit: parent.audit }
        : { location: await this.#writeTree('location'), audit: await this.#writeTree('audit') }
    const [inserted, updated, deleted] = [this.#inserted, this.#updated, this.#deleted]
    return {
      changed,
      index: {
        kind: index.kind,
        keyParts: index.keyParts,
        seed: index.seed,
        bits: this.#bits,
        count: this.#count,
        bytes: this.#bytes,
        sums: [hex64(this.#sums[0] as bigint), hex64(this.#sums[1] as bigint)],
        shape: index.shape,
        build: parent === undefined ? 'full' : changed ? 'incremental' : 'unchanged',
        reason: index.reason,
        ...trees,
      },
      counts: { inserted, updated, deleted, unchanged: this.#count - inserted - updated, bytes: this.#bytesChanged },
      duplicates: this.#duplicates,
      missed: this.#missed,
      sources: this.#sources.deltas(),
      blocksWritten: this.#blocksWritten,
      bytesWritten: this.#queue.bytes,
    }
  }

  // ---- blocks

  /** Full build: every page is written, blocks come from the records alone. */
  async #buildRange(records: RecordBuffer, sorted: SortedRecords): Promise<void> {
    const { blocks, starts, positions } = sorted
    for (let i = 0; i < blocks.length; i++) {
      const block = blocks[i] as number
      const page = Math.floor(block / PAGE_BLOCKS)
      if (this.#draft?.page !== page) await this.#skipTo(page, true)
      const start = starts[i] as number
      const end = starts[i + 1] as number
      this.#fold(block, records.bytes, positions.subarray(start, end), null)
      const wait = this.#queue.ready()
      if (wait !== undefined) {
        await wait
        this.#options.signal.throwIfAborted()
      }
    }
  }

  /** Closes the draft and makes empty pages up to `page`; opens `page` itself when asked. */
  async #skipTo(page: number, openIt = false): Promise<void> {
    for (; this.#nextPage < page + (openIt ? 1 : 0); this.#nextPage++) {
      this.#closeDraft()
      const first = this.#nextPage * PAGE_BLOCKS
      const rows = rowsAt(this.#bits, 0, first)
      this.#draft = {
        page: this.#nextPage,
        location: emptyLocationPage(first, rows),
        audit: emptyAuditPage(first, rows),
        dirty: true,
        closed: false,
        unplaced: 0,
      }
      await this.#queue.ready()
    }
  }

  /** Incremental build: only blocks that records (or a repack) touch are read. */
  async #mergeRange(
    records: RecordBuffer,
    sorted: SortedRecords,
    first: number,
    moved: Uint32Array,
    parent: { location: Tree; audit: Tree },
  ): Promise<void> {
    const { blocks, starts, positions } = sorted
    const last = first + sorted.span
    const touched = union(
      blocks,
      moved.filter((block) => block >= first && block < last),
    )
    let i = 0
    let m = 0
    for await (const { drafts, loaded } of prefetch(this.#load(touched, parent))) {
      for (const { block, stored } of loaded) {
        const page = Math.floor(block / PAGE_BLOCKS)
        if (this.#draft?.page !== page) {
          this.#closeDraft()
          this.#draft = drafts.get(page) as Draft
        }
        while (m < moved.length && (moved[m] as number) < block) m++
        const move = moved[m] === block
        if (blocks[i] === block) {
          this.#fold(block, records.bytes, positions.subarray(starts[i], starts[i + 1]), stored, move)
          i++
        } else if (move) this.#move(block, stored)
        const wait = this.#queue.ready()
        if (wait !== undefined) {
          await wait
          this.#options.signal.throwIfAborted()
        }
      }
    }
  }

  /** Reads what the parent has of these blocks, in batches bounded in blocks and bytes. */
  async *#load(
    blocks: Uint32Array,
    parent: { location: Tree; audit: Tree },
  ): AsyncGenerator<{ drafts: Map<number, Draft>; loaded: LoadedBlock[] }> {
    // The last page of a batch may go on in the next one, and across hash ranges.
    let open = this.#draft
    for (let from = 0; from < blocks.length; from += READ_BLOCKS) {
      this.#options.signal.throwIfAborted()
      const batch = blocks.subarray(from, from + READ_BLOCKS)
      const pages = [...new Set(Array.from(batch, (block) => Math.floor(block / PAGE_BLOCKS)))]
      const drafts = new Map<number, Draft>()
      if (open !== undefined && open.page === pages[0]) drafts.set(open.page, open)
      const missing = pages.filter((page) => !drafts.has(page))
      const [locations, audits] = await Promise.all([
        parent.location.locationPages(missing),
        parent.audit.auditPages(missing),
      ])
      missing.forEach((page, i) => {
        drafts.set(page, {
          page,
          location: locations[i] as LocationPage,
          audit: audits[i] as AuditPage,
          dirty: false,
          closed: false,
          unplaced: 0,
        })
      })
      open = drafts.get(pages.at(-1) as number)
      let group: Array<{ block: number; location: Location | null }> = []
      let bytes = 0
      for (const block of batch) {
        const draft = drafts.get(Math.floor(block / PAGE_BLOCKS)) as Draft
        const location = locationAt(draft.location, block % PAGE_BLOCKS)
        group.push({ block, location })
        bytes += location?.length ?? 0
        if (bytes < READ_BYTES) continue
        yield { drafts, loaded: await this.#readBlocks(group) }
        group = []
        bytes = 0
      }
      if (group.length > 0) yield { drafts, loaded: await this.#readBlocks(group) }
    }
  }

  async #readBlocks(wanted: ReadonlyArray<{ block: number; location: Location | null }>): Promise<LoadedBlock[]> {
    const present = wanted.filter((item) => item.location !== null)
    const stored = await this.#options.data.read(present.map((item) => item.location as Location))
    let next = 0
    return wanted.map(({ block, location }) => {
      if (location === null) return { block, stored: null }
      const bytes = stored[next++] ?? null
      if (bytes === null)
        throw corrupt(
          this.#options.where,
          `block ${block}`,
          `${location.length} bytes in generation ${location.generation}`,
          'nothing',
        )
      return { block, stored: bytes }
    })
  }

  /** Copies a block into this generation as it is. */
  #move(block: number, stored: Uint8Array | null): void {
    const draft = this.#draft as Draft
    const row = block % PAGE_BLOCKS
    const location = locationAt(draft.location, row)
    if (location === null || stored === null) {
      // Nothing stored, but its page is to be written anew.
      draft.dirty = true
      return
    }
    const checksum = draft.location.checksum[row] as bigint
    openBlock(stored, checksum, block, this.#options.where)
    this.#sources.count(location, -1)
    this.#put(draft, row, Buffer.from(stored), checksum)
  }

  /**
   * Folds the records of one block (`positions` into `bytes`) into what the parent has of it. Removals and additions are net
   * multiset operations, a SET replaces all that the key had; order among them does not matter, but the last SET of a key wins.
   */
  #fold(block: number, bytes: Buffer, positions: Uint32Array, stored: Uint8Array | null, move = false): void {
    const draft = this.#draft as Draft
    const row = block % PAGE_BLOCKS
    const many = this.#many
    const where = this.#options.where
    const old = stored === null ? undefined : openBlock(stored, draft.location.checksum[row] as bigint, block, where)
    let size = old?.length ?? 0
    let plain = old === undefined
    for (const position of positions) {
      size += recordLength(bytes, position)
      if (bytes[position + 4] !== ADD) plain = false
    }
    sortRecords(bytes, positions, many)
    if (size > this.#blockBytesMax * 2 && !plain) {
      // A row written over and over: most of what it adds it also removes.
      positions = netRecords(bytes, positions, many)
      size = old?.length ?? 0
      for (const position of positions) size += recordLength(bytes, position)
    }
    if (size > this.#blockBytesMax * 2) throw this.#tooLarge(block, size, bytes, positions)
    const out = hashMemory(size)
    const sums = this.#blockSums
    sums[0] = 0n
    sums[1] = 0n
    let length = 0
    let count = 0

    if (plain) {
      let keyStart = -1
      let keyLength = 0
      let repeats = false
      for (const position of positions) {
        const start = position + RECORD_HEADER
        const end = start + recordLength(bytes, position)
        bytes.copy(out, length, start, end)
        if (!many) {
          const nextLength = lengthAt(bytes, start)
          const again =
            keyStart >= 0 &&
            compare(bytes, keyStart, keyStart + keyLength, bytes, start + 4, start + 4 + nextLength) === 0
          if (again && !repeats) sampleKey(this.#duplicates, bytes, start + 4, start + 4 + nextLength)
          repeats = again
          keyStart = start + 4
          keyLength = nextLength
        }
        const next = length + end - start
        addHashAt(sums, 0, length, next, 1n)
        addHashAt(sums, 1, length, next, 2n)
        length = next
      }
      count = positions.length
      this.#inserted += count
      this.#bytesChanged += length
    } else {
      // Offsets of the parent's entries.
      const olds: number[] = []
      if (old !== undefined) for (let at = 0; at < old.length; at = entryEnd(old, at, many)) olds.push(at)
      const parent = old ?? EMPTY
      let changed = false
      const emit = (from: Buffer, start: number, end: number) => {
        from.copy(out, length, start, end)
        length += end - start
        count++
      }
      let o = 0
      let p = 0
      while (o < olds.length || p < positions.length) {
        // One key at a time: the lesser of both sides, and all that either has of it.
        const oldAt = olds[o]
        const position = positions[p]
        const order =
          oldAt === undefined
            ? 1
            : position === undefined
              ? -1
              : compareKeys(parent, oldAt, bytes, position + RECORD_HEADER)
        if (order < 0) {
          emit(parent, oldAt as number, entryEnd(parent, oldAt as number, many))
          o++
          continue
        }
        const key = (position as number) + RECORD_HEADER
        const keyEnd = key + 4 + lengthAt(bytes, key)
        let oEnd = o
        if (order === 0)
          while (oEnd < olds.length && compareKeys(parent, olds[oEnd] as number, bytes, key) === 0) oEnd++
        let pEnd = p
        while (
          pEnd < positions.length &&
          compareKeys(bytes, (positions[pEnd] as number) + RECORD_HEADER, bytes, key) === 0
        )
          pEnd++
        let added = 0
        let removed = 0
        const before = count
        // SETs sort behind a key's other records, the latest last.
        const final = positions[pEnd - 1] as number
        if (bytes[final + 4] === SET) {
          const start = final + RECORD_HEADER
          const end = start + recordLength(bytes, final)
          const deletes = bytes.readInt32BE(valueAt(bytes, start, many) - 4) === -1
          let same = false
          for (; o < oEnd; o++) {
            const at = olds[o] as number
            if (!same && !deletes && compare(parent, at, entryEnd(parent, at, many), bytes, start, end) === 0)
              same = true
            else {
              removed++
              this.#bytesChanged += entryEnd(parent, at, many) - at
            }
          }
          if (!deletes) {
            emit(bytes, start, end)
            if (!same) {
              added++
              this.#bytesChanged += end - start
            }
          }
          p = pEnd
        } else {
          while (o < oEnd || p < pEnd) {
            const at = o < oEnd ? (olds[o] as number) : undefined
            const record = p < pEnd ? (positions[p] as number) + RECORD_HEADER : undefined
            const turn =
              at === undefined ? 1 : record === undefined ? -1 : compareEntries(parent, at, bytes, record, many)
            if (turn < 0) {
              emit(parent, at as number, entryEnd(parent, at as number, many))
              o++
              continue
            }
            // All that is equal to this record, on both sides.
            const start = record as number
            const end = start + recordLength(bytes, start - RECORD_HEADER)
            let had = 0
            if (turn === 0)
              while (o < oEnd && compareEntries(parent, olds[o] as number, bytes, start, many) === 0) {
                had++
                o++
              }
            let net = 0
            while (
              p < pEnd &&
              compareEntries(bytes, (positions[p] as number) + RECORD_HEADER, bytes, start, many) === 0
            ) {
              net += bytes[(positions[p] as number) + 4] === ADD ? 1 : -1
              p++
            }
            if (had + net < 0) sampleKey(this.#missed, bytes, key + 4, keyEnd, -(had + net))
            const left = Math.max(0, had + net)
            for (let n = 0; n < left; n++) emit(bytes, start, end)
            if (left > had) added += left - had
            else removed += had - left
            this.#bytesChanged += Math.abs(left - had) * (end - start)
          }
        }
        if (added + removed > 0) changed = true
        const both = Math.min(added, removed)
        this.#updated += both
        this.#inserted += added - both
        this.#deleted += removed - both
        if (!many && count - before > 1) sampleKey(this.#duplicates, bytes, key + 4, keyEnd)
      }
      if (!changed) {
        if (move) this.#move(block, stored)
        return
      }
      for (let at = 0; at < length; ) {
        const end = entryEnd(out, at, many)
        addHashAt(sums, 0, at, end, 1n)
        addHashAt(sums, 1, at, end, 2n)
        at = end
      }
    }

    if (length > this.#blockBytesMax) throw this.#tooLarge(block, length, bytes, positions)
    this.#contentChanged = true
    const { audit } = draft
    const s = this.#sums
    s[0] = (s[0] as bigint) + (sums[0] as bigint) - (audit.sum1[row] as bigint)
    s[1] = (s[1] as bigint) + (sums[1] as bigint) - (audit.sum2[row] as bigint)
    this.#count += count - (audit.count[row] as number)
    this.#bytes += length - (old?.length ?? 0)
    audit.count[row] = count
    audit.sum1[row] = sums[0] as bigint
    audit.sum2[row] = sums[1] as bigint
    const former = locationAt(draft.location, row)
    if (former !== null) this.#sources.count(former, -1)
    if (count === 0) {
      setLocation(draft.location, row, null, 0n)
      audit.sha.fill(0, row * 16, row * 16 + 16)
      draft.dirty = true
      return
    }
    const object = encodeBlock(out.subarray(0, length))
    sha256(object).copy(audit.sha, row * 16, 0, 16)
    this.#put(draft, row, object, blockChecksum(object))
  }

  #put(draft: Draft, row: number, object: Buffer, checksum: bigint): void {
    draft.dirty = true
    draft.unplaced++
    this.#blocksWritten++
    this.#queue.add(object, (location) => {
      this.#sources.count(location, 1)
      setLocation(draft.location, row, location, checksum)
      draft.unplaced--
      if (draft.closed && draft.unplaced === 0) this.#putPage(draft)
    })
  }

  #tooLarge(block: number, size: number, bytes: Buffer, positions: Uint32Array): SnapflipError {
    const { where } = this.#options
    const start = (positions[0] as number) + RECORD_HEADER
    const length = lengthAt(bytes, start)
    bytes.copy(hashMemory(length), 0, start + 4, start + 4 + length)
    const key = hex64(hashAt(0, length, 0n))
    return new SnapflipError(
      'BLOCK_TOO_LARGE',
      `Block ${block} of index ${where.index} in ${where.dataset} would have ${size} bytes in ${positions.length} entries or more: expected at most ${this.#blockBytesMax}. ` +
        `A key with very many or very long values does this; one of its keys has xxh64 ${key}. Split that key, or leave such rows out with where.`,
      { dataset: where.dataset, index: where.index, block, bytes: size, keyHash: key, limit: this.#blockBytesMax },
    )
  }

  // ---- pages and nodes

  #closeDraft(): void {
    const draft = this.#draft
    this.#draft = undefined
    if (draft === undefined || !draft.dirty) return
    draft.closed = true
    if (draft.unplaced === 0) this.#putPage(draft)
  }

  #putPage(draft: Draft): void {
    const put = (kind: TreeKind, object: Buffer) =>
      this.#queue.add(object, (location) => {
        this.#sources.count(location, 1)
        this.#leaves[kind].set(draft.page, { ...location, sha256: sha256(object) })
      })
    put('location', encodeLocationPage(draft.location))
    put('audit', encodeAuditPage(draft.audit))
  }

  #writeTree(kind: TreeKind): Promise<IndexManifest['location']> {
    return writeTree({
      kind,
      bits: this.#bits,
      leaves: this.#leaves[kind],
      parent: this.#parent?.[kind],
      queue: this.#queue,
      sources: this.#sources,
    })
  }
}

const EMPTY = Buffer.alloc(0)

/** Two ascending lists as one, each number once. */
function union(a: Uint32Array, b: Uint32Array): Uint32Array {
  if (b.length === 0) return a
  return Uint32Array.from(new Set([...a, ...b])).sort()
}
