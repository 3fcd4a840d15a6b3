import { endianness } from 'node:os'
import type { Location } from '../../schemas/manifest.ts'
import { corrupt, type Where } from './corrupt.ts'
import { sha256 } from './hash.ts'

/**
 * Pages cut the block table into positional, immutable pieces of 256 blocks; nodes above them, with up to 512 children each,
 * make a tree whose root the manifest names. Two trees an index: `location` is what a reader needs, `audit` what a check needs.
 * All integers are little-endian. Both begin with
 *
 *     0 "SFPG"   4 u8 format 1   5 u8 kind (1 location, 2 audit)   6 u8 level (0 page)   7 u8 0
 *     8 u32 first block covered   12 u32 rows (blocks or children)   16 u32 sources
 *     20 sources: 16 bytes generation, u32 pack, each
 *
 * and go on with columns:
 *
 *     location page   u16 source (0xffff: no entries, nothing stored), u32 offset, u32 length, u64 xxh64 of the stored bytes
 *     audit page      u32 count, u64 sum1, u64 sum2, 16 bytes of SHA-256 of the stored bytes
 *     node            u16 source, u32 offset, u32 length, 32 bytes SHA-256 of the child's stored bytes
 */
export type TreeKind = 'location' | 'audit'

export const PAGE_BLOCKS = 256
export const NODE_CHILDREN = 512

const MAGIC = 0x47504653 // "SFPG"
const FORMAT = 1
const KINDS = { location: 1, audit: 2 } as const
const HEADER = 20
const SOURCE = 20
const EMPTY = 0xffff

/** A pack of a generation, which is where objects lie. */
export interface Source {
  generation: string
  pack: number
}

export interface LocationPage {
  first: number
  sources: Source[]
  /** Per block an index into `sources`; 0xffff: the block has no entries. */
  source: Uint16Array
  offset: Uint32Array
  length: Uint32Array
  checksum: BigUint64Array
}

export interface AuditPage {
  first: number
  count: Uint32Array
  sum1: BigUint64Array
  sum2: BigUint64Array
  /** 16 bytes a block. */
  sha: Buffer
}

/** What a node says of a child: where it lies and the SHA-256 of its stored bytes. */
export interface ChildRef extends Location {
  sha256: Buffer
}

export interface Node {
  kind: TreeKind
  level: number
  first: number
  children: ChildRef[]
}

export function emptyLocationPage(first: number, blocks: number): LocationPage {
  return {
    first,
    sources: [],
    source: new Uint16Array(blocks).fill(EMPTY),
    offset: new Uint32Array(blocks),
    length: new Uint32Array(blocks),
    checksum: new BigUint64Array(blocks),
  }
}

export function emptyAuditPage(first: number, blocks: number): AuditPage {
  return {
    first,
    count: new Uint32Array(blocks),
    sum1: new BigUint64Array(blocks),
    sum2: new BigUint64Array(blocks),
    sha: Buffer.alloc(16 * blocks),
  }
}

/** Where block `first + row` lies; null when it has no entries. */
export function locationAt(page: LocationPage, row: number): Location | null {
  const source = page.sources[page.source[row] as number]
  if (source === undefined) return null
  return {
    generation: source.generation,
    pack: source.pack,
    offset: page.offset[row] as number,
    length: page.length[row] as number,
  }
}

/** Sets where block `first + row` lies; null: it has no entries. */
export function setLocation(page: LocationPage, row: number, location: Location | null, checksum: bigint): void {
  page.source[row] = location === null ? EMPTY : sourceIndex(page.sources, location)
  page.offset[row] = location?.offset ?? 0
  page.length[row] = location?.length ?? 0
  page.checksum[row] = location === null ? 0n : checksum
}

function sourceIndex(sources: Source[], wanted: Source): number {
  // From the end: the blocks of one build are set one after the other.
  for (let i = sources.length - 1; i >= 0; i--) {
    const source = sources[i] as Source
    if (source.pack === wanted.pack && source.generation === wanted.generation) return i
  }
  return sources.push({ generation: wanted.generation, pack: wanted.pack }) - 1
}

/** How many levels of nodes stand above the pages of a layout of 2^bits blocks. */
export function treeDepth(bits: number): number {
  let depth = 0
  for (let objects = pageCount(bits); objects > 1; objects = Math.ceil(objects / NODE_CHILDREN)) depth++
  return depth
}

export function pageCount(bits: number): number {
  return Math.ceil(2 ** bits / PAGE_BLOCKS)
}

/** Blocks that one object at `level` covers: 256 for a page, 256 x 512^level for a node. */
export function spanAt(level: number): number {
  return PAGE_BLOCKS * NODE_CHILDREN ** level
}

function begin(
  bytes: number,
  kind: TreeKind,
  level: number,
  first: number,
  rows: number,
  sources: readonly Source[],
): Buffer {
  const out = Buffer.alloc(HEADER + SOURCE * sources.length + bytes)
  out.writeUInt32LE(MAGIC, 0)
  out[4] = FORMAT
  out[5] = KINDS[kind]
  out[6] = level
  out.writeUInt32LE(first, 8)
  out.writeUInt32LE(rows, 12)
  out.writeUInt32LE(sources.length, 16)
  let at = HEADER
  for (const source of sources) {
    out.write(source.generation, at, 16, 'hex')
    out.writeUInt32LE(source.pack, at + 16)
    at += SOURCE
  }
  return out
}

const LITTLE_ENDIAN = endianness() === 'LE'

/** Writes a column at `at`; returns where the next one begins. Copied whole: number by number, pages cost more than their blocks' checksums. */
function writeColumn(out: Buffer, at: number, column: Uint16Array | Uint32Array | BigUint64Array): number {
  const bytes = Buffer.from(column.buffer, column.byteOffset, column.byteLength)
  bytes.copy(out, at)
  const end = at + bytes.length
  if (!LITTLE_ENDIAN) swap(out.subarray(at, end), column.BYTES_PER_ELEMENT)
  return end
}

/** Fills a column from `at`; returns where the next one begins. */
function readColumn(bytes: Buffer, at: number, column: Uint16Array | Uint32Array | BigUint64Array): number {
  const target = Buffer.from(column.buffer, column.byteOffset, column.byteLength)
  bytes.copy(target, 0, at)
  if (!LITTLE_ENDIAN) swap(target, column.BYTES_PER_ELEMENT)
  return at + target.length
}

function swap(bytes: Buffer, width: number): void {
  if (width === 2) bytes.swap16()
  else if (width === 4) bytes.swap32()
  else bytes.swap64()
}

/** Drops sources that no block names any more, in order of first use: equal pages have equal bytes. */
export function encodeLocationPage(page: LocationPage): Buffer {
  const rows = page.source.length
  const sources: Source[] = []
  const renumbered = new Map<number, number>()
  for (const source of page.source)
    if (source !== EMPTY && !renumbered.has(source))
      renumbered.set(source, sources.push(page.sources[source] as Source) - 1)
  const out = begin(18 * rows, 'location', 0, page.first, rows, sources)
  let at = HEADER + SOURCE * sources.length
  const indexes = page.source.map((source) => renumbered.get(source) ?? EMPTY)
  for (const column of [indexes, page.offset, page.length, page.checksum]) at = writeColumn(out, at, column)
  return out
}

export function encodeAuditPage(page: AuditPage): Buffer {
  const rows = page.count.length
  const out = begin(36 * rows, 'audit', 0, page.first, rows, [])
  let at = HEADER
  for (const column of [page.count, page.sum1, page.sum2]) at = writeColumn(out, at, column)
  page.sha.copy(out, at)
  return out
}

export function encodeNode(node: Node): Buffer {
  const sources: Source[] = []
  const indexes = node.children.map((child) => sourceIndex(sources, child))
  const out = begin(42 * node.children.length, node.kind, node.level, node.first, node.children.length, sources)
  let at = HEADER + SOURCE * sources.length
  for (const index of indexes) at = out.writeUInt16LE(index, at)
  for (const child of node.children) at = out.writeUInt32LE(child.offset, at)
  for (const child of node.children) at = out.writeUInt32LE(child.length, at)
  for (const child of node.children) at += child.sha256.copy(out, at)
  return out
}

/** What a page or node has to be, known before it is read: its parent says so. */
export interface Expected {
  kind: TreeKind
  level: number
  first: number
  rows: number
  sha256: Uint8Array
}

function objectName(expected: Expected): string {
  return expected.level === 0
    ? `${expected.kind} page at block ${expected.first}`
    : `${expected.kind} node at block ${expected.first}, level ${expected.level}`
}

interface Opened {
  bytes: Buffer
  sources: Source[]
  at: number
}

function open(stored: Uint8Array | null, expected: Expected, rowBytes: number, where: Where): Opened {
  const fail = (wanted: string, found: string) => corrupt(where, objectName(expected), wanted, found)
  if (stored === null) throw fail('its bytes', 'nothing, or fewer bytes than its parent says')
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength)
  const digest = sha256(bytes)
  if (!digest.equals(expected.sha256))
    throw fail(
      `SHA-256 ${Buffer.from(expected.sha256).toString('hex')}`,
      `${digest.toString('hex')} over ${bytes.length} bytes`,
    )
  // From here on the bytes are what a writer meant; a mismatch is a page in the wrong place, or a writer's fault.
  if (bytes.length < HEADER || bytes.readUInt32LE(0) !== MAGIC)
    throw fail('a page that begins with SFPG', `${bytes.length} other bytes`)
  if (bytes[4] !== FORMAT) throw fail(`page format ${FORMAT}`, `${bytes[4]}`)
  const header = `kind ${bytes[5]}, level ${bytes[6]}, first ${bytes.readUInt32LE(8)}, rows ${bytes.readUInt32LE(12)}`
  const wanted = `kind ${KINDS[expected.kind]}, level ${expected.level}, first ${expected.first}, rows ${expected.rows}`
  if (header !== wanted) throw fail(wanted, header)
  const sourceCount = bytes.readUInt32LE(16)
  const length = HEADER + SOURCE * sourceCount + rowBytes * expected.rows
  if (bytes.length !== length) throw fail(`${length} bytes`, `${bytes.length}`)
  const sources: Source[] = []
  let at = HEADER
  for (let i = 0; i < sourceCount; i++, at += SOURCE)
    sources.push({ generation: bytes.toString('hex', at, at + 16), pack: bytes.readUInt32LE(at + 16) })
  return { bytes, sources, at }
}

/** `stored` null: the store lacks it. Throws CORRUPT. */
export function decodeLocationPage(stored: Uint8Array | null, expected: Expected, where: Where): LocationPage {
  const opened = open(stored, expected, 18, where)
  const { bytes, sources } = opened
  let at = opened.at
  const page = emptyLocationPage(expected.first, expected.rows)
  page.sources = sources
  for (const column of [page.source, page.offset, page.length, page.checksum]) at = readColumn(bytes, at, column)
  for (const source of page.source)
    if (source !== EMPTY && source >= sources.length)
      throw corrupt(where, objectName(expected), `a source below ${sources.length}`, `${source}`)
  return page
}

/** `stored` null: the store lacks it. Throws CORRUPT. */
export function decodeAuditPage(stored: Uint8Array | null, expected: Expected, where: Where): AuditPage {
  const opened = open(stored, expected, 36, where)
  const { bytes } = opened
  let at = opened.at
  const page = emptyAuditPage(expected.first, expected.rows)
  for (const column of [page.count, page.sum1, page.sum2]) at = readColumn(bytes, at, column)
  bytes.copy(page.sha, 0, at)
  return page
}

/** `stored` null: the store lacks it. Throws CORRUPT. */
export function decodeNode(stored: Uint8Array | null, expected: Expected, where: Where): Node {
  const { bytes, sources, at } = open(stored, expected, 42, where)
  const rows = expected.rows
  const children: ChildRef[] = []
  for (let i = 0; i < rows; i++) {
    const source = sources[bytes.readUInt16LE(at + 2 * i)]
    if (source === undefined)
      throw corrupt(
        where,
        objectName(expected),
        `a source below ${sources.length}`,
        `${bytes.readUInt16LE(at + 2 * i)}`,
      )
    const sha = at + 10 * rows + 32 * i
    children.push({
      generation: source.generation,
      pack: source.pack,
      offset: bytes.readUInt32LE(at + 2 * rows + 4 * i),
      length: bytes.readUInt32LE(at + 6 * rows + 4 * i),
      sha256: bytes.subarray(sha, sha + 32),
    })
  }
  return { kind: expected.kind, level: expected.level, first: expected.first, children }
}

/** How many rows the object at `level` that begins at block `first` has, in a layout of 2^bits blocks. */
export function rowsAt(bits: number, level: number, first: number): number {
  const left = 2 ** bits - first
  return level === 0 ? Math.min(PAGE_BLOCKS, left) : Math.min(NODE_CHILDREN, Math.ceil(left / spanAt(level - 1)))
}
