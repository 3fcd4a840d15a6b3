import { createHash } from 'node:crypto'
import {
  appendFile,
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { SnapflipError } from '../core/errors.ts'
import { lengthAt } from './block.ts'
import type { EntryOp, EntrySink } from './entry.ts'
import { hashKey, hex64, parseHex64, sha256Hex, xxh64 } from './hash.ts'
import { RECORD_HEADER, type RecordBuffer, recordHash, recordLength, SLAB_BYTES, writeRecord } from './records.ts'

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
const EXTENT_BYTES = 128 << 10
/** Writes under way at most, per chunk; with EXTENT_BYTES this bounds the memory a slow disk can fill. */
const WRITES_MAX = 64
const PARTITION_BITS_MIN = 6
const PARTITION_BITS_MAX = 9
const PARTITION_BYTES = 16 << 20
/** Small durable chunks are not partitioned; every hash range reads them all, so they are bounded in total. */
const UNPARTITIONED_BYTES_MAX = 8 << 20
const UNPARTITIONED = -1

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
  /** What all chunks together may keep in memory before they use files. */
  memoryBytesMax?: number
  /** A guess of all records' bytes; more partitions are made for more. */
  expectedBytes?: number
}

interface Extent {
  partition: number
  offset: number
  length: number
  /** xxh64 of the extent, 16 hex digits. */
  checksum: string
}

export interface FinishedChunk {
  id: string
  /** Whatever the caller wanted to remember with it, such as the range and the snapshot. */
  note: unknown
  entries: number
  bytes: number
}

interface StoredChunk extends FinishedChunk {
  file: string | null
  extents: Extent[]
}

interface Chunk extends StoredChunk {
  slabs: Buffer[]
}

interface Layout {
  format: 1
  kind: string
  seed: string
  partitionBits: number
}

const journalLine = (value: unknown) => {
  const json = JSON.stringify(value)
  return `${createHash('sha256').update(json).digest('hex').slice(0, 16)} ${json}\n`
}

function parseJournalLine(line: string): unknown {
  const json = line.slice(17)
  return sha256Hex(json).slice(0, 16) === line.slice(0, 16) ? JSON.parse(json) : undefined
}

/**
 * Opens a build's runs of one index, with the chunks that an earlier process finished when they are durable and were made for
 * the same layout. A torn last journal line counts as not written; files that no line names are removed.
 */
export async function openRuns(options: RunsOptions): Promise<Runs> {
  const wanted = Math.ceil(Math.log2(Math.max(1, (options.expectedBytes ?? 0) / PARTITION_BYTES)))
  const partitionBits = Math.min(PARTITION_BITS_MAX, Math.max(PARTITION_BITS_MIN, wanted))
  let layout: Layout = { format: 1, kind: options.kind, seed: options.seed, partitionBits }
  const chunks: Chunk[] = []
  if (options.durable) {
    const journal = join(options.folder, 'journal')
    const text = await guarded(options.folder, async () => {
      await mkdir(options.folder, { recursive: true })
      return readFile(journal, 'utf8').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return ''
        throw error
      })
    })
    let valid = 0
    let head = true
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', valid)) {
      const value = parseJournalLine(text.slice(valid, end))
      if (value === undefined) break
      if (head) {
        const found = value as Layout
        if (found.format !== 1 || found.kind !== layout.kind || found.seed !== layout.seed) break
        layout = found
        head = false
      } else chunks.push({ ...(value as StoredChunk), slabs: [] })
      valid = end + 1
    }
    await guarded(options.folder, async () => {
      if (head) await writeFile(journal, journalLine(layout))
      else await truncate(journal, Buffer.byteLength(text.slice(0, valid)))
      const kept = new Set(chunks.map((chunk) => chunk.file))
      for (const name of await readdir(options.folder))
        if (name.endsWith('.run') && !kept.has(name)) await rm(join(options.folder, name), { force: true })
    })
  }
  return new Runs(options, layout.partitionBits, chunks)
}

/** A full temporary folder is its own error: it names the folder to make room in. */
async function guarded<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOSPC' || code === 'EDQUOT')
      throw new SnapflipError(
        'STORE_FULL',
        `The temporary folder ${folder} is full: expected room for the rows of this build, found none. Free some, or name another folder in TMPDIR.`,
        { folder },
        error,
      )
    throw error
  }
}

export class Runs {
  readonly options: RunsOptions
  readonly partitionBits: number
  readonly many: boolean
  readonly seed: bigint
  #chunks: Chunk[]
  readonly #files = new Map<string, FileHandle>()
  /** Bytes that chunks keep in memory now. */
  heldBytes = 0
  /** Partition buffers that are free: the next chunk takes them over. */
  readonly spare: Buffer[] = []
  #unpartitionedBytes = 0
  #serial = 0

  /** Use `openRuns`. */
  constructor(options: RunsOptions, partitionBits: number, chunks: Chunk[]) {
    this.options = options
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
    if (durable) {
      const { slabs: _, ...stored } = chunk
      await guarded(this.options.folder, () => appendFile(join(this.options.folder, 'journal'), journalLine(stored)))
    }
    this.#chunks.push(chunk)
  }

  /** Forgets finished durable chunks whose rows are no longer those of the source: they may be begun again. */
  async drop(ids: ReadonlySet<string>): Promise<void> {
    const { folder, kind, seed } = this.options
    const dropped = this.#chunks.filter((chunk) => ids.has(chunk.id))
    this.#chunks = this.#chunks.filter((chunk) => !ids.has(chunk.id))
    const layout: Layout = { format: 1, kind, seed, partitionBits: this.partitionBits }
    const lines = this.#chunks.map(({ slabs: _, ...stored }) => journalLine(stored))
    // The journal first: a file that it does not name is removed when the runs are opened.
    await guarded(folder, async () => {
      await writeFile(join(folder, 'journal.new'), journalLine(layout) + lines.join(''))
      await rename(join(folder, 'journal.new'), join(folder, 'journal'))
    })
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
      }
    }
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
    for (const chunk of this.#chunks) chunk.slabs = []
    this.spare.length = 0
    this.heldBytes = 0
  }

  /** Closes, and removes the folder. */
  async remove(): Promise<void> {
    await this.close()
    await rm(this.options.folder, { recursive: true, force: true })
  }
}

/** Finishes the chunk with what `fill` notes of it; what failed leaves neither file nor memory behind. */
export async function finished(writer: RunWriter, fill: (writer: RunWriter) => Promise<unknown>): Promise<void> {
  try {
    await writer.finish(await fill(writer))
  } catch (error) {
    await writer.abandon()
    throw error
  }
}

/** Takes the entries of one chunk. Nothing of it counts until `finish` has resolved. */
export class RunWriter implements EntrySink {
  readonly #runs: Runs
  readonly #id: string
  readonly #path: string
  readonly #durable: boolean
  readonly #memoryBytesMax: number
  #entries = 0
  #bytes = 0
  /** In memory: finished slabs, and the one being filled. */
  #slabs: Buffer[] = []
  #slab: Buffer = Buffer.alloc(0)
  #used = 0
  #held = 0
  /** On disk: per partition the buffer being filled, and how far. */
  #spilled = false
  #buffers: Array<Buffer | undefined> = []
  #filled: Uint32Array
  #file: FileHandle | undefined
  #opening: Promise<FileHandle> | undefined
  #offset = 0
  #extents: Extent[] = []
  #writes = new Set<Promise<void>>()
  #failure: unknown

  constructor(runs: Runs, id: string, path: string, durable: boolean) {
    this.#runs = runs
    this.#id = id
    this.#path = path
    this.#durable = durable
    this.#memoryBytesMax = runs.options.memoryBytesMax ?? 64 << 20
    this.#filled = new Uint32Array(2 ** runs.partitionBits)
  }

  entry(op: EntryOp, bytes: Buffer, start: number, end: number, keyStart: number, keyEnd: number): void {
    const { options, many, seed } = this.#runs
    const length = end - start
    if (keyEnd - keyStart > options.keyBytesMax || length > options.valueBytesMax)
      this.#checkLimits(bytes, keyStart, keyEnd, many)
    const hash = hashKey(bytes, keyStart, keyEnd, seed)
    const size = RECORD_HEADER + length
    this.#entries++
    this.#bytes += length
    if (!this.#spilled && this.#used + size > this.#slab.length && !this.#nextSlab(size)) this.#spill()
    let target: Buffer = this.#slab
    let at = this.#used
    if (this.#spilled) {
      const partition = hash >>> (32 - this.#runs.partitionBits)
      target = this.#partition(partition, size)
      at = this.#filled[partition] as number
      this.#filled[partition] = at + size
    } else this.#used += size
    writeRecord(target, at, hash, op, bytes, start, end)
  }

  ready(): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#writes.size < WRITES_MAX) return undefined
    return this.#settle(WRITES_MAX / 2)
  }

  /** Makes the chunk count: durable runs are synced and journalled first. */
  async finish(note: unknown = null): Promise<FinishedChunk> {
    const { folder } = this.#runs.options
    const durable = this.#durable
    let unpartitioned = false
    if (durable && !this.#spilled && this.#entries > 0) {
      unpartitioned = this.#runs.takeUnpartitioned(this.#held)
      if (!unpartitioned) this.#spill()
    }
    if (this.#used > 0) this.#slabs.push(this.#slab.subarray(0, this.#used))
    if (unpartitioned) for (const slab of this.#slabs) this.#write(UNPARTITIONED, slab, undefined)
    this.#buffers.forEach((buffer, partition) => {
      const filled = this.#filled[partition] as number
      if (buffer !== undefined && filled > 0) this.#write(partition, buffer.subarray(0, filled), buffer)
    })
    await this.#settle(0)
    if (this.#file !== undefined) {
      const file = this.#file
      this.#file = undefined
      await guarded(folder, () => file.close())
    }
    const onDisk = this.#extents.length > 0
    const chunk: Chunk = {
      id: this.#id,
      note,
      entries: this.#entries,
      bytes: this.#bytes,
      file: onDisk ? (this.#path.split('/').at(-1) as string) : null,
      extents: this.#extents,
      slabs: onDisk ? [] : this.#slabs,
    }
    if (onDisk) this.#release()
    await this.#runs.add(chunk, durable)
    this.#slabs = []
    return chunk
  }

  /** Gives the chunk up and removes what it wrote. */
  async abandon(): Promise<void> {
    await this.#settle(0).catch(() => undefined)
    await this.#file?.close()
    this.#file = undefined
    this.#release()
    this.#slabs = []
    this.#buffers = []
    await rm(this.#path, { force: true })
  }

  /** An entry's order and value are bounded together: the value is at most the entry, so the exact look is only for long ones. */
  #checkLimits(bytes: Buffer, keyStart: number, keyEnd: number, many: boolean): void {
    const { dataset, index, keyBytesMax, valueBytesMax } = this.#runs.options
    const key = bytes.subarray(keyStart, keyEnd)
    const name = key.length <= 64 ? JSON.stringify(key.toString('utf8')) : `(SHA-256) ${sha256Hex(key).slice(0, 16)}`
    const fail = (
      code: 'KEY_TOO_LONG' | 'VALUE_TOO_LONG',
      what: string,
      limit: number,
      found: number,
      setting: string,
    ) =>
      new SnapflipError(
        code,
        `The ${what} of the row with key ${name} in index ${index} of ${dataset} is too long: expected at most ${limit} bytes, found ${found}. ` +
          `Raise ${setting} of the index, or shorten the row.`,
        { dataset, index, key: name, limit, found },
      )
    if (key.length > keyBytesMax) throw fail('KEY_TOO_LONG', 'key', keyBytesMax, key.length, 'keyBytesMax')
    let at = keyEnd
    if (many) {
      const order = lengthAt(bytes, at)
      if (order > valueBytesMax) throw fail('VALUE_TOO_LONG', 'order', valueBytesMax, order, 'valueBytesMax')
      at += 4 + order
    }
    const value = lengthAt(bytes, at)
    if (value > valueBytesMax && value !== 0xffffffff)
      throw fail('VALUE_TOO_LONG', 'value', valueBytesMax, value, 'valueBytesMax')
  }

  /** A new slab, if the build's share of memory allows one. */
  #nextSlab(size: number): boolean {
    const bytes = Math.max(SLAB_BYTES, size)
    if (this.#runs.heldBytes + bytes > this.#memoryBytesMax) return false
    // What is to be written anyway goes to its partition at once.
    if (this.#durable && this.#held > 0) return false
    if (this.#used > 0) this.#slabs.push(this.#slab.subarray(0, this.#used))
    this.#slab = Buffer.allocUnsafeSlow(bytes)
    this.#used = 0
    this.#held += bytes
    this.#runs.heldBytes += bytes
    return true
  }

  /** Moves all records from memory to partitions. */
  #spill(): void {
    this.#spilled = true
    if (this.#used > 0) this.#slabs.push(this.#slab.subarray(0, this.#used))
    this.#used = 0
    this.#slab = Buffer.alloc(0)
    for (const slab of this.#slabs)
      for (let at = 0; at < slab.length; ) {
        const end = at + RECORD_HEADER + recordLength(slab, at)
        const partition = recordHash(slab, at) >>> (32 - this.#runs.partitionBits)
        const target = this.#partition(partition, end - at)
        slab.copy(target, this.#filled[partition], at, end)
        this.#filled[partition] = (this.#filled[partition] as number) + end - at
        at = end
      }
    this.#slabs = []
    this.#release()
  }

  #release(): void {
    this.#runs.heldBytes -= this.#held
    this.#held = 0
  }

  /** The partition's buffer, with room for `size` bytes at `#filled[partition]`. */
  #partition(partition: number, size: number): Buffer {
    let buffer = this.#buffers[partition]
    const filled = this.#filled[partition] as number
    if (buffer === undefined || filled + size > buffer.length) {
      if (buffer !== undefined && filled > 0) this.#write(partition, buffer.subarray(0, filled), buffer)
      buffer =
        size > EXTENT_BYTES
          ? Buffer.allocUnsafeSlow(size)
          : (this.#runs.spare.pop() ?? Buffer.allocUnsafeSlow(EXTENT_BYTES))
      this.#buffers[partition] = buffer
      this.#filled[partition] = 0
    }
    return buffer
  }

  /** Appends an extent; `reusable` returns to the spare buffers when it is written. */
  #write(partition: number, bytes: Buffer, reusable: Buffer | undefined): void {
    const offset = this.#offset
    this.#offset += bytes.length
    this.#extents.push({ partition, offset, length: bytes.length, checksum: hex64(xxh64(bytes)) })
    const write = guarded(this.#runs.options.folder, async () => {
      const file = await this.#open()
      for (let done = 0; done < bytes.length; )
        done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten
    }).then(
      () => {
        if (reusable?.length === EXTENT_BYTES) this.#runs.spare.push(reusable)
      },
      (error) => {
        this.#failure ??= error
      },
    )
    this.#writes.add(write)
    void write.then(() => this.#writes.delete(write))
  }

  #open(): Promise<FileHandle> {
    this.#opening ??= mkdir(this.#runs.options.folder, { recursive: true }).then(async () => {
      this.#file = await open(this.#path, 'w')
      return this.#file
    })
    return this.#opening
  }

  async #settle(left: number): Promise<void> {
    while (this.#writes.size > left) await Promise.race(this.#writes)
    if (this.#failure !== undefined) throw this.#failure
  }
}
