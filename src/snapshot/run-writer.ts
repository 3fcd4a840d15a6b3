import { type FileHandle, mkdir, open, rm } from 'node:fs/promises'
import { SnapflipError } from '../core/errors.ts'
import { lengthAt } from './block.ts'
import { type EntryOp, type EntrySink, REMOVE } from './entry.ts'
import { hashKey, hex64, sha256Hex, xxh64 } from './hash.ts'
import { PartitionBuffer } from './partition-buffer.ts'
import { RECORD_HEADER, recordHash, recordLength, SLAB_BYTES, writeRecord } from './records.ts'
import { type Chunk, type Extent, type FinishedChunk, guarded, UNPARTITIONED } from './run-chunk.ts'
import type { Runs } from './runs.ts'

/** Writes under way at most, per chunk; with EXTENT_BYTES this bounds the memory a slow disk can fill. */
const WRITES_MAX = 64

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
  #entries = 0
  #bytes = 0
  /** In memory: finished slabs, and the one being filled. */
  #slabs: Buffer[] = []
  #slab: Buffer = Buffer.alloc(0)
  #used = 0
  #held = 0
  /** On disk: per partition the buffer being filled. */
  #spilled = false
  #buffers: Array<PartitionBuffer | undefined> = []
  /** Whether there was a removal, so that additions may be taken back. */
  #removes = false
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
    if (this.#spilled) {
      this.#put(hash, op, bytes, start, end)
      return
    }
    writeRecord(this.#slab, this.#used, hash, op, bytes, start, end)
    this.#used += size
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
      if (buffer !== undefined) this.#write(partition, buffer.records(), buffer.bytes)
    })
    this.#buffers = []
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
      heldBytes: onDisk ? 0 : this.#held,
    }
    if (onDisk) this.#release()
    this.#held = 0
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
    for (const buffer of this.#buffers) if (buffer !== undefined) this.#runs.memory.giveBack(buffer.bytes)
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
    // What is to be written anyway goes to its partition at once.
    if (this.#durable && this.#held > 0) return false
    if (!this.#runs.memory.take(bytes)) return false
    if (this.#used > 0) this.#slabs.push(this.#slab.subarray(0, this.#used))
    this.#slab = Buffer.allocUnsafeSlow(bytes)
    this.#used = 0
    this.#held += bytes
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
        const entry = at + RECORD_HEADER
        const end = entry + recordLength(slab, at)
        this.#put(recordHash(slab, at), slab.readInt8(at + 4) as EntryOp, slab, entry, end)
        at = end
      }
    this.#slabs = []
    this.#release()
  }

  #release(): void {
    this.#runs.memory.release(this.#held)
    this.#held = 0
  }

  #put(hash: number, op: EntryOp, bytes: Buffer, start: number, end: number): void {
    const partition = hash >>> (32 - this.#runs.partitionBits)
    let buffer = this.#buffers[partition]
    if (op === REMOVE) {
      this.#removes = true
      if (buffer?.takeBack(hash, bytes, start, end)) {
        this.#entries -= 2
        this.#bytes -= 2 * (end - start)
        return
      }
    }
    const size = RECORD_HEADER + end - start
    if (!buffer?.hasRoom(size)) {
      if (buffer !== undefined) this.#write(partition, buffer.records(), buffer.bytes)
      buffer = new PartitionBuffer(this.#runs.memory.extent(size))
      this.#buffers[partition] = buffer
    }
    buffer.put(hash, op, bytes, start, end, this.#removes)
  }

  /** Appends an extent; its buffer, if it has one, is given back when that is written. */
  #write(partition: number, bytes: Buffer, buffer: Buffer | undefined): void {
    const { memory } = this.#runs
    if (bytes.length === 0) {
      if (buffer !== undefined) memory.giveBack(buffer)
      return
    }
    const offset = this.#offset
    this.#offset += bytes.length
    this.#extents.push({ partition, offset, length: bytes.length, checksum: hex64(xxh64(bytes)) })
    const write = guarded(this.#runs.options.folder, async () => {
      const file = await this.#open()
      for (let done = 0; done < bytes.length; )
        done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten
    }).then(
      () => {
        if (buffer !== undefined) memory.giveBack(buffer)
      },
      (error) => {
        if (buffer !== undefined) memory.giveBack(buffer)
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
