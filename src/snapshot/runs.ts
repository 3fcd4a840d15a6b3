import { type FileHandle, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SnapflipError } from '../core/errors.ts'
import { hex64, parseHex64, xxh64 } from './hash.ts'
import type { RecordBuffer } from './records.ts'
import { type Chunk, type Extent, type FinishedChunk, UNPARTITIONED } from './run-chunk.ts'
import { appendToJournal, type Layout, openJournal, writeJournal } from './run-journal.ts'
import { RunMemory } from './run-memory.ts'
import { RunWriter } from './run-writer.ts'

/**
 * Runs are what a scan leaves for the merge: records (src/snapshot/records.ts), grouped by the leading bits of their key's hash.
 *
 * A small build keeps them in memory. Past its share of memory a chunk's records go to partitions: each has a buffer that is
 * appended to the chunk's one file when full (an extent), so that the merge can read one hash range at a time. A finished
 * durable chunk has one line in the journal; what has no line was never finished, and is scanned again. Nothing is synced: a killed
 * process loses nothing by that, extents carry checksums for when the machine fails, and syncing each chunk doubled a scan's time.
 */

/** Records read at a time: what one hash range may take in memory. */
const RANGE_BYTES = 24 << 20
/** Eight of the largest blocks. Offsets of records have 32 bits. */
const RANGE_BYTES_MAX = 512 << 20
const PARTITION_BITS_MIN = 6
const PARTITION_BITS_MAX = 9
const PARTITION_BYTES = 16 << 20
/** Small durable chunks are not partitioned; every hash range reads them all, so they are bounded in total. */
const UNPARTITIONED_BYTES_MAX = 8 << 20
export interface RunsOptions {
  dataset: string
  index: string
  kind: 'unique' | 'many'
  /** Seed of the key hash, 16 hex digits, as the version will have it. */
  seed: string
  keyBytesMax: number
  valueBytesMax: number
  /** The build's folder; made when it is needed. */
  folder: string
  /** Finished chunks survive this process: a retry goes on after them. */
  durable?: boolean
  /** Shared by the runs of a build. */
  memory?: RunMemory
  /** What the records of one hash range may have, where its keys cannot be parted further. */
  rangeBytesMax?: number
  /** A guess of all records' bytes; more partitions are made for more. */
  expectedBytes?: number
}

/**
 * Opens a build's runs of one index, with the chunks that an earlier process finished when they are durable and were made for
 * the same layout. A torn last journal line counts as not written; files that no line names are removed.
 */
export async function openRuns(options: RunsOptions): Promise<Runs> {
  const wanted = Math.ceil(Math.log2(Math.max(1, (options.expectedBytes ?? 0) / PARTITION_BYTES)))
  const partitionBits = Math.min(PARTITION_BITS_MAX, Math.max(PARTITION_BITS_MIN, wanted))
  const layout: Layout = { format: 1, kind: options.kind, seed: options.seed, partitionBits }
  const found = options.durable ? await openJournal(options.folder, layout) : { layout, chunks: [] }
  return new Runs(options, found.layout.partitionBits, found.chunks)
}

export class Runs {
  readonly options: RunsOptions
  readonly partitionBits: number
  readonly many: boolean
  readonly seed: bigint
  #chunks: Chunk[]
  readonly #files = new Map<string, FileHandle>()
  readonly memory: RunMemory
  readonly #rangeBytesMax: number
  #unpartitionedBytes = 0
  #serial = 0

  /** Use `openRuns`. */
  constructor(options: RunsOptions, partitionBits: number, chunks: Chunk[]) {
    this.options = options
    this.memory = options.memory ?? new RunMemory()
    this.#rangeBytesMax = options.rangeBytesMax ?? RANGE_BYTES_MAX
    this.partitionBits = partitionBits
    this.many = options.kind === 'many'
    this.seed = parseHex64(options.seed)
    this.#chunks = chunks
    for (const chunk of chunks) {
      this.#serial = Math.max(this.#serial, Number.parseInt(chunk.file ?? '0', 10))
      for (const extent of chunk.extents)
        if (extent.partition === UNPARTITIONED) this.#unpartitionedBytes += extent.length
    }
  }

  get finished(): readonly FinishedChunk[] {
    return this.#chunks
  }

  get entries(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.entries, 0)
  }

  /** Bytes of all entries, without record headers. */
  get bytes(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.bytes, 0)
  }

  /**
   * Takes the entries of one chunk of the scan. Its id must not be finished yet; several may be open at once. A chunk that another
   * attempt would read differently (changes up to a watermark) is not `durable`, whatever the runs are.
   */
  begin(id: string, { durable = this.options.durable ?? false }: { durable?: boolean } = {}): RunWriter {
    if (this.#chunks.some((chunk) => chunk.id === id)) throw new Error(`chunk ${id} is finished already`)
    return new RunWriter(this, id, join(this.options.folder, `${++this.#serial}.run`), durable)
  }

  /** Called by a RunWriter that holds `bytes` unpartitioned: may they stay so on disk? */
  takeUnpartitioned(bytes: number): boolean {
    if (this.#unpartitionedBytes + bytes > UNPARTITIONED_BYTES_MAX) return false
    this.#unpartitionedBytes += bytes
    return true
  }

  /** Called by a RunWriter once its bytes are where they stay. */
  async add(chunk: Chunk, durable: boolean): Promise<void> {
    if (durable) await appendToJournal(this.options.folder, chunk)
    this.#chunks.push(chunk)
  }

  /** Forgets finished durable chunks whose rows are no longer those of the source: they may be begun again. */
  async drop(ids: ReadonlySet<string>): Promise<void> {
    const { folder, kind, seed } = this.options
    const dropped = this.#chunks.filter((chunk) => ids.has(chunk.id))
    this.#chunks = this.#chunks.filter((chunk) => !ids.has(chunk.id))
    const layout: Layout = { format: 1, kind, seed, partitionBits: this.partitionBits }
    // The journal first: a file that it does not name is removed when the runs are opened.
    await writeJournal(folder, layout, this.#chunks)
    for (const chunk of dropped) {
      for (const extent of chunk.extents)
        if (extent.partition === UNPARTITIONED) this.#unpartitionedBytes -= extent.length
      if (chunk.file !== null) await rm(join(folder, chunk.file), { force: true })
    }
  }

  /** In how many hash ranges, 2^n of them and at most 2^bitsMax, the runs are read so that each fits into memory. */
  rangeBits(bitsMax: number): number {
    let bits = 0
    while (bits < bitsMax && this.#largestRange(bits) > RANGE_BYTES) bits++
    return bits
  }

  /** Bytes of records, headers included, of the largest of 2^rangeBits hash ranges, or more than that. */
  #largestRange(rangeBits: number): number {
    const shift = Math.max(0, this.partitionBits - rangeBits)
    const split = 2 ** Math.max(0, rangeBits - this.partitionBits)
    const sums = new Float64Array(2 ** (this.partitionBits - shift))
    let spread = 0
    for (const chunk of this.#chunks) {
      for (const slab of chunk.slabs) spread += slab.length
      for (const extent of chunk.extents)
        if (extent.partition === UNPARTITIONED) spread += extent.length
        else sums[extent.partition >> shift] = (sums[extent.partition >> shift] as number) + extent.length
    }
    return Math.max(...sums) / split + spread / 2 ** rangeBits
  }

  /** Reads the records of hash range `range` of 2^rangeBits, in the order of chunks and of each chunk's scan, end to end into one buffer. */
  async read(rangeBits: number, range: number, into: RecordBuffer): Promise<void> {
    into.length = 0
    const shift = this.partitionBits - rangeBits
    for (const chunk of this.#chunks) {
      for (const slab of chunk.slabs) into.addMatching(slab, rangeBits, range)
      for (const extent of chunk.extents) {
        if (extent.partition === UNPARTITIONED) into.addMatching(await this.#extent(chunk, extent), rangeBits, range)
        else if (shift >= 0) {
          if (extent.partition >> shift === range) await this.#extent(chunk, extent, into.reserve(extent.length))
        } else if (extent.partition === range >> -shift)
          into.addMatching(await this.#extent(chunk, extent), rangeBits, range)
        if (into.length > this.#rangeBytesMax) throw this.#tooLarge(into.length)
      }
    }
  }

  /** One key's records are never parted; what they add up to is known only when they are together. */
  #tooLarge(bytes: number): SnapflipError {
    const { dataset, index } = this.options
    const rangeBytesMax = this.#rangeBytesMax
    return new SnapflipError(
      'BLOCK_TOO_LARGE',
      `The rows and changes of few keys of index ${index} in ${dataset} have ${bytes} bytes or more: expected at most ${rangeBytesMax}. ` +
        `After very many changes of large rows, \`snapflip refresh ${dataset} --full\` needs none of them; else split those keys, or leave such rows out with where.`,
      { dataset, index, bytes, limit: rangeBytesMax },
    )
  }

  async #extent(chunk: Chunk, extent: Extent, target: Buffer = Buffer.allocUnsafe(extent.length)): Promise<Buffer> {
    const path = join(this.options.folder, chunk.file as string)
    let file = this.#files.get(path)
    if (file === undefined) {
      const opened = await open(path, 'r').catch(() => undefined)
      if (opened === undefined) throw await this.#damaged(path, extent)
      file = opened
      this.#files.set(path, file)
    }
    const { bytesRead } = await file.read(target, 0, extent.length, extent.offset)
    if (bytesRead !== extent.length || hex64(xxh64(target)) !== extent.checksum) throw await this.#damaged(path, extent)
    return target
  }

  /** After a power failure a journalled chunk may be gone: forgetting the journal makes the next attempt scan anew. */
  async #damaged(path: string, extent: Extent): Promise<SnapflipError> {
    await rm(join(this.options.folder, 'journal'), { force: true })
    return new SnapflipError(
      'RUNS_DAMAGED',
      `The temporary file ${path} is damaged at byte ${extent.offset}: expected checksum ${extent.checksum}, found other bytes or none. ` +
        'Its journal was dropped, so that the next attempt reads the source again; if this comes back, look at the disk.',
      { folder: this.options.folder },
    )
  }

  /** Closes files; what is durable stays. */
  async close(): Promise<void> {
    for (const file of this.#files.values()) await file.close()
    this.#files.clear()
    for (const chunk of this.#chunks) {
      this.memory.release(chunk.heldBytes)
      Object.assign(chunk, { slabs: [], heldBytes: 0 })
    }
  }

  /** Closes, and removes the folder. */
  async remove(): Promise<void> {
    await this.close()
    await rm(this.options.folder, { recursive: true, force: true })
  }
}
