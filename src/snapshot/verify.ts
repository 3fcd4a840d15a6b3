import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import { isSnapflipError, type SnapflipError } from '../core/errors.ts'
import type { DataStore } from '../stores/ports.ts'
import { blockChecksum, decodeBlock, eachEntry, rawLength } from './block.ts'
import { corrupt, type Where } from './corrupt.ts'
import { compareEntries, compareKeys } from './entry-order.ts'
import { addHashAt, hashAt, hashMemory, hex64, parseHex64, sha256 } from './hash.ts'
import { type KeySample, sampleKey } from './key-sample.ts'
import { contentDigest } from './manifest.ts'
import { type AuditPage, type LocationPage, locationAt, PAGE_BLOCKS, pageCount, treeDepth } from './page.ts'
import { prefetch } from './prefetch.ts'
import { readPages, type StoredBlock } from './read.ts'
import { type SourceDelta, SourceTally } from './sources.ts'
import { differingRefs, sameObject, Tree } from './tree.ts'

/** Pages verified at a time. */
const PAGES = 16
/** Problems kept with their details; all are counted. */
const PROBLEMS_MAX = 20

export interface IndexEvidence {
  /** Blocks read. */
  blocks: number
  count: number
  bytes: number
  sums: [string, string]
  /** Keys of a unique index that stand more than once. */
  duplicates: KeySample
  /** Live objects by where they lie, pages and nodes included; with `since`, what that has more or less. */
  sources: SourceDelta[]
  /** CORRUPT errors, at most a few of them; `corrupt` counts all. */
  problems: SnapflipError[]
  corrupt: number
}

export interface VerifyOptions {
  signal: AbortSignal
  onProgress?: (progress: { blocks: number; entries: number }) => void
  /**
   * The index that this one was built upon, which was verified when it was new. What both share is not read: the parent's totals, less
   * what its differing blocks say of themselves and plus what was found in the new ones, must be the manifest's totals.
   */
  since?: IndexManifest
}

/**
 * Reads every object of an index again (with `since`: every one that it does not share) and recomputes all that pages and manifest say of it: checksums, order and place of entries, counts,
 * sums, bytes. Trusts nothing but the manifest's root hashes. Problems are collected, not thrown; other errors (store unreachable) are thrown.
 */
export async function verifyIndex(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  options: VerifyOptions,
): Promise<IndexEvidence> {
  return new Verification(data, where, index, options).run()
}

interface Trees {
  location: Tree
  audit: Tree
}

/** Both pages of the same blocks. */
interface Pages {
  location: LocationPage
  audit: AuditPage
}

function treesOf(data: DataStore, index: IndexManifest, where: Where): Trees {
  return { location: new Tree(data, 'location', index, where), audit: new Tree(data, 'audit', index, where) }
}

class Verification {
  readonly #data: DataStore
  readonly #where: Where
  readonly #index: IndexManifest
  readonly #options: VerifyOptions
  readonly #seed: bigint
  readonly #many: boolean
  readonly #trees: Trees
  readonly #former: Trees | null
  readonly #sums = new BigUint64Array(2)
  readonly #blockSums = new BigUint64Array(2)
  readonly #sources = new SourceTally()
  readonly #duplicates: KeySample = { count: 0, keys: [] }
  readonly #problems = new Map<string, SnapflipError>()
  #blocks = 0
  #count = 0
  #bytes = 0

  constructor(data: DataStore, where: Where, index: IndexManifest, options: VerifyOptions) {
    this.#data = data
    this.#where = where
    this.#index = index
    this.#options = options
    this.#seed = parseHex64(index.seed)
    this.#many = index.kind === 'many'
    this.#trees = treesOf(data, index, where)
    const { since } = options
    // Another layout or hash shares nothing: then all is read.
    if (since === undefined || since.bits !== index.bits || since.seed !== index.seed || since.kind !== index.kind) {
      this.#former = null
      return
    }
    const former = { dataset: where.dataset, index: where.index }
    this.#former = {
      location: new Tree(data, 'location', since, former),
      audit: new Tree(data, 'audit', since, former),
    }
    this.#count = since.count
    this.#bytes = since.bytes
    this.#sums[0] = parseHex64(since.sums[0])
    this.#sums[1] = parseHex64(since.sums[1])
  }

  async run(): Promise<IndexEvidence> {
    const { bits, location, audit, count, bytes, sums } = this.#index
    const depth = treeDepth(bits)
    if (location.depth !== depth || audit.depth !== depth)
      this.#note(corrupt(this.#where, 'manifest', `trees of depth ${depth}`, `${location.depth} and ${audit.depth}`))
    else if (this.#former === null) await this.#everything()
    else await this.#differences(this.#former)
    const found: [string, string] = [hex64(this.#sums[0] as bigint), hex64(this.#sums[1] as bigint)]
    if (this.#problems.size === 0) {
      // Totals mean something only when every part was read.
      const line = (c: number, b: number, s: readonly string[]) => `${c} entries, ${b} bytes, sums ${s[0]} ${s[1]}`
      const wanted = line(count, bytes, sums)
      const actual = line(this.#count, this.#bytes, found)
      if (wanted !== actual) this.#note(corrupt(this.#where, 'manifest', wanted, actual))
    }
    return {
      blocks: this.#blocks,
      count: this.#count,
      bytes: this.#bytes,
      sums: found,
      duplicates: this.#duplicates,
      sources: this.#sources.deltas(),
      problems: [...this.#problems.values()].slice(0, PROBLEMS_MAX),
      corrupt: this.#problems.size,
    }
  }

  #note(error: unknown): void {
    if (!isSnapflipError(error, 'CORRUPT')) throw error
    this.#problems.set(error.message, error)
  }

  async #everything(): Promise<void> {
    const pages = pageCount(this.#index.bits)
    const all = Array.from({ length: pages }, (_, page) => page)
    for await (const loaded of prefetch(this.#eachLoaded(all, (some) => this.#load(some)))) await this.#verify(loaded)
    for (const tree of [this.#trees.location, this.#trees.audit])
      for (let level = tree.depth; level >= 0; level--) {
        const positions = Array.from({ length: Math.ceil(pages / 512 ** level) }, (_, i) => i)
        try {
          for (const ref of await tree.refs(level, positions)) this.#sources.count(ref, 1)
        } catch (error) {
          this.#note(error)
        }
      }
  }

  /** What this index does not share with the former one, and what that had in its place. */
  async #differences(former: Trees): Promise<void> {
    const pages = new Set<number>()
    for (const kind of ['location', 'audit'] as const)
      try {
        for await (const { level, position, ref, other } of differingRefs(this.#trees[kind], former[kind])) {
          this.#sources.count(ref, 1)
          this.#sources.count(other, -1)
          if (level === 0) pages.add(position)
        }
      } catch (error) {
        this.#note(error)
      }
    const positions = [...pages].sort((a, b) => a - b)
    const bothSides = async (some: readonly number[]) => {
      const [now, before] = await Promise.all([this.#load(some), this.#load(some, former)])
      return now.map((pair, i) => ({ now: pair, before: before[i] as Pages }))
    }
    for await (const loaded of prefetch(this.#eachLoaded(positions, bothSides))) {
      const rows = new Set<number>()
      for (const { now, before } of loaded)
        for (let row = 0; row < now.location.source.length; row++) {
          if (sameRow(now, before, row)) continue
          rows.add(now.location.first + row)
          this.#count -= before.audit.count[row] as number
          this.#sums[0] = (this.#sums[0] as bigint) - (before.audit.sum1[row] as bigint)
          this.#sums[1] = (this.#sums[1] as bigint) - (before.audit.sum2[row] as bigint)
        }
      const former = loaded.map(({ before }) => before.location)
      const current = loaded.map(({ now }) => now)
      await Promise.all([this.#takeOff(former, rows), this.#verify(current, rows)])
    }
  }

  /** Takes the bytes of replaced blocks off the total. How many there were before compression, only the blocks themselves say. */
  async #takeOff(former: readonly LocationPage[], replaced: ReadonlySet<number>): Promise<void> {
    const where = { dataset: this.#where.dataset, index: this.#where.index }
    for await (const batch of readPages(this.#data, former, replaced))
      for (const { block, location, checksum, stored } of batch) {
        this.#sources.count(location, -1)
        try {
          const found = stored === null ? null : blockChecksum(stored)
          if (stored === null || found !== checksum)
            throw corrupt(
              where,
              `block ${block}`,
              `checksum ${hex64(checksum)}`,
              found === null ? 'nothing' : hex64(found),
            )
          this.#bytes -= rawLength(stored, block, where)
        } catch (error) {
          this.#note(error)
        }
      }
  }

  /** Reads and verifies the blocks of these pages, or of them only those in `rows`. */
  async #verify(loaded: readonly Pages[], rows?: ReadonlySet<number>): Promise<void> {
    const byPage = new Map(loaded.map((pair) => [pair.location.first / PAGE_BLOCKS, pair]))
    for (const { location, audit } of loaded) this.#empties(location, audit)
    for await (const batch of readPages(
      this.#data,
      loaded.map((pair) => pair.location),
      rows,
    )) {
      this.#options.signal.throwIfAborted()
      for (const block of batch) {
        const pair = byPage.get(Math.floor(block.block / PAGE_BLOCKS)) as Pages
        try {
          this.#block(block, pair.audit)
        } catch (error) {
          this.#note(error)
        }
      }
      this.#options.onProgress?.({ blocks: this.#blocks, entries: this.#count })
    }
  }

  async *#eachLoaded<T>(
    pages: readonly number[],
    load: (positions: readonly number[]) => Promise<T[]>,
  ): AsyncGenerator<T[]> {
    for (let from = 0; from < pages.length; from += PAGES) {
      this.#options.signal.throwIfAborted()
      const positions = pages.slice(from, from + PAGES)
      try {
        yield await load(positions)
      } catch {
        // One of them is damaged: each by itself, so that the others are still looked at.
        for (const position of positions)
          try {
            yield await load([position])
          } catch (error) {
            this.#note(error)
          }
      }
    }
  }

  async #load(positions: readonly number[], trees: Trees = this.#trees): Promise<Pages[]> {
    const [locations, audits] = await Promise.all([
      trees.location.locationPages(positions),
      trees.audit.auditPages(positions),
    ])
    return locations.map((location, i) => ({ location, audit: audits[i] as AuditPage }))
  }

  /** Blocks that the location page calls empty must be empty for the audit page too. */
  #empties(location: LocationPage, audit: AuditPage): void {
    location.source.forEach((source, row) => {
      if (source === 0xffff && (audit.count[row] !== 0 || audit.sum1[row] !== 0n || audit.sum2[row] !== 0n))
        this.#note(corrupt(this.#where, `block ${location.first + row}`, `${audit.count[row]} entries`, 'no location'))
    })
  }

  #block(item: StoredBlock, audit: AuditPage): void {
    const { block, stored } = item
    const where = this.#where
    const name = `block ${block}`
    const row = block % PAGE_BLOCKS
    this.#sources.count(item.location, 1)
    if (stored === null)
      throw corrupt(
        where,
        name,
        `${item.location.length} bytes in generation ${item.location.generation}`,
        'nothing, or fewer',
      )
    const checksum = blockChecksum(stored)
    if (checksum !== item.checksum) throw corrupt(where, name, `checksum ${hex64(item.checksum)}`, hex64(checksum))
    const sha = sha256(stored)
    if (sha.compare(audit.sha, row * 16, row * 16 + 16, 0, 16) !== 0)
      throw corrupt(
        where,
        name,
        `SHA-256 ${audit.sha.toString('hex', row * 16, row * 16 + 16)}…`,
        `${sha.toString('hex', 0, 16)}…`,
      )
    const raw = decodeBlock(stored, block, where)
    // Hashed where it lies: nothing below may grow or write the hash memory.
    hashMemory(raw.length).set(raw)
    const sums = this.#blockSums
    sums[0] = 0n
    sums[1] = 0n
    const { bits } = this.#index
    let previous = -1
    const count = eachEntry(raw, this.#many, block, where, (start, keyStart, keyEnd, _valueStart, end) => {
      addHashAt(sums, 0, start, end, 1n)
      addHashAt(sums, 1, start, end, 2n)
      const place = bits === 0 ? 0 : Number(hashAt(keyStart, keyEnd, this.#seed) >> BigInt(64 - bits))
      if (place !== block) throw corrupt(where, name, 'keys whose hash leads here', `a key of block ${place}`)
      if (previous >= 0) {
        const order = compareKeys(raw, previous, raw, start)
        if (order > 0 || (order === 0 && compareEntries(raw, previous, raw, start, this.#many) > 0))
          throw corrupt(where, name, 'entries in order', `an entry out of order at byte ${start}`)
        if (order === 0 && !this.#many) sampleKey(this.#duplicates, raw, keyStart, keyEnd)
      }
      previous = start
    })
    if (count !== audit.count[row] || sums[0] !== audit.sum1[row] || sums[1] !== audit.sum2[row])
      throw corrupt(
        where,
        name,
        `${audit.count[row]} entries, sums ${hex64(audit.sum1[row] as bigint)} ${hex64(audit.sum2[row] as bigint)}`,
        `${count} entries, sums ${hex64(sums[0])} ${hex64(sums[1])}`,
      )
    this.#blocks++
    this.#count += count
    this.#bytes += raw.length
    this.#sums[0] = (this.#sums[0] as bigint) + sums[0]
    this.#sums[1] = (this.#sums[1] as bigint) + sums[1]
  }
}

/** Whether both versions have the same stored bytes at a row, and say the same of them. */
function sameRow(now: Pages, before: Pages, row: number): boolean {
  const [place, former] = [locationAt(now.location, row), locationAt(before.location, row)]
  const samePlace =
    place === null || former === null ? place === former : sameObject(place, former) && place.length === former.length
  return (
    samePlace &&
    now.location.checksum[row] === before.location.checksum[row] &&
    now.audit.count[row] === before.audit.count[row] &&
    now.audit.sum1[row] === before.audit.sum1[row] &&
    now.audit.sum2[row] === before.audit.sum2[row] &&
    now.audit.sha.compare(before.audit.sha, row * 16, row * 16 + 16, row * 16, row * 16 + 16) === 0
  )
}

export interface VersionEvidence {
  digest: string
  indexes: Record<string, IndexEvidence>
  problems: SnapflipError[]
}

/** `verifyIndex` for all indexes of a version, and what their manifest says of them together: digest and live sources. */
export async function verifyVersion(
  data: DataStore,
  manifest: Manifest,
  options: VerifyOptions,
): Promise<VersionEvidence> {
  const indexes: Record<string, IndexEvidence> = {}
  const tally = new SourceTally()
  for (const [name, index] of Object.entries(manifest.indexes)) {
    const where = { dataset: manifest.dataset, index: name, tag: manifest.tag }
    const evidence = await verifyIndex(data, where, index, options)
    indexes[name] = evidence
    tally.fold(evidence.sources)
  }
  const problems = Object.values(indexes).flatMap((evidence) => evidence.problems)
  const where = { dataset: manifest.dataset, index: '(all)', tag: manifest.tag }
  const digest = contentDigest(
    Object.fromEntries(
      Object.entries(manifest.indexes).map(([name, { kind }]) => {
        const { count, sums } = indexes[name] as IndexEvidence
        return [name, { kind, count, sums }]
      }),
    ),
  )
  if (problems.length === 0) {
    if (digest !== manifest.digest) problems.push(corrupt(where, 'manifest', `digest ${manifest.digest}`, digest))
    tally.fold(manifest.sources, -1)
    const [wrong] = tally.deltas()
    if (wrong !== undefined)
      problems.push(
        corrupt(
          where,
          'manifest',
          `live objects of generation ${wrong.generation}, pack ${wrong.pack}, as its sources say`,
          `${wrong.objects} objects and ${wrong.bytes} bytes more`,
        ),
      )
  }
  return { digest, indexes, problems }
}
