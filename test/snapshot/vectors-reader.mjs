/**
 * A reader of its own, written from docs/format.md alone: nothing here is imported but Node's file system and SHA-256. What it cannot
 * read, the page does not say. `node vectors-reader.mjs FOLDER DATASET [TAG]` prints every key with its values, read twice: by walking the
 * whole version, and by looking each key up.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const U64 = (1n << 64n) - 1n
const [P1, P2, P3, P4, P5] = [
  0x9e3779b185ebca87n,
  0xc2b2ae3d27d4eb4fn,
  0x165667b19e3779f9n,
  0x85ebca77c2b2ae63n,
  0x27d4eb2f165667c5n,
]
const mul = (a, b) => (a * b) & U64
const add = (a, b) => (a + b) & U64
const rotl = (a, n) => ((a << n) | (a >> (64n - n))) & U64
const round = (acc, lane) => mul(rotl(add(acc, mul(lane, P2)), 31n), P1)
const mergeRound = (acc, value) => add(mul(acc ^ round(0n, value), P1), P4)

export function xxh64(bytes, seed) {
  let at = 0
  let hash
  if (bytes.length >= 32) {
    const lanes = [add(add(seed, P1), P2), add(seed, P2), seed, (seed - P1) & U64]
    for (; at + 32 <= bytes.length; at += 32)
      for (let i = 0; i < 4; i++) lanes[i] = round(lanes[i], bytes.readBigUInt64LE(at + 8 * i))
    hash = [1n, 7n, 12n, 18n].reduce((sum, n, i) => add(sum, rotl(lanes[i], n)), 0n)
    for (const lane of lanes) hash = mergeRound(hash, lane)
  } else hash = add(seed, P5)
  hash = add(hash, BigInt(bytes.length))
  for (; at + 8 <= bytes.length; at += 8)
    hash = add(mul(rotl(hash ^ round(0n, bytes.readBigUInt64LE(at)), 27n), P1), P4)
  if (at + 4 <= bytes.length) {
    hash = add(mul(rotl(hash ^ mul(BigInt(bytes.readUInt32LE(at)), P1), 23n), P2), P3)
    at += 4
  }
  for (; at < bytes.length; at++) hash = mul(rotl(hash ^ mul(BigInt(bytes[at]), P5), 11n), P1)
  hash = mul(hash ^ (hash >> 33n), P2)
  hash = mul(hash ^ (hash >> 29n), P3)
  return hash ^ (hash >> 32n)
}

/** One LZ4 block of `size` bytes. */
function unpackLz4(input, size) {
  const output = Buffer.alloc(size)
  let [from, to] = [0, 0]
  const lengthOf = (nibble) => {
    let length = nibble
    for (let more = nibble === 15; more; ) {
      length += input[from]
      more = input[from++] === 255
    }
    return length
  }
  while (from < input.length) {
    const token = input[from++]
    const literals = lengthOf(token >> 4)
    input.copy(output, to, from, from + literals)
    from += literals
    to += literals
    if (from === input.length) break
    const distance = input.readUInt16LE(from)
    from += 2
    const match = lengthOf(token & 15) + 4
    // Byte by byte: a match may reach into what it writes.
    for (let i = 0; i < match; i++, to++) output[to] = output[to - distance]
  }
  check(to === size, `a block of ${size} bytes unpacks to ${to}`)
  return output
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const hex64 = (value) => value.toString(16).padStart(16, '0')

function check(holds, what) {
  if (!holds) throw new Error(`not as docs/format.md says: ${what}`)
}

/** A folder store. Each store gives three things: the pointer, a manifest by its tag, and the bytes at a location. */
export function folderStore(folder, dataset) {
  const at = (...names) => join(folder, dataset, ...names)
  return {
    async pointer() {
      const newest = Math.max(...readdirSync(at('pointer')).map((name) => Number(/^(\d+)\.json$/.exec(name)?.[1] ?? 0)))
      return JSON.parse(readFileSync(at('pointer', `${newest}.json`), 'utf8'))
    },
    manifest: async (tag) => readFileSync(at('manifests', tag)),
    object: async ({ generation, pack, offset, length }) =>
      readFileSync(at('packs', generation, String(pack))).subarray(offset, offset + length),
  }
}

const TREES = { location: 1, audit: 2 }

/** The header and columns of a page or node. */
function parseObject(bytes, tree, level) {
  check(bytes.toString('latin1', 0, 4) === 'SFPG', 'an object begins with SFPG')
  check(bytes[4] === 1 && bytes[5] === TREES[tree] && bytes[6] === level && bytes[7] === 0, `${tree} at level ${level}`)
  const [first, rows, sources] = [8, 12, 16].map((place) => bytes.readUInt32LE(place))
  let at = 20 + 20 * sources
  const column = (width, read) => {
    const from = at
    at += width * rows
    return (row) => read(from + width * row)
  }
  const u32 = (place) => bytes.readUInt32LE(place)
  const u64 = (place) => bytes.readBigUInt64LE(place)
  let rowAt
  if (tree === 'audit' && level === 0) {
    check(sources === 0, 'an audit page has no sources')
    const columns = [
      column(4, u32),
      column(8, u64),
      column(8, u64),
      column(16, (place) => bytes.toString('hex', place, place + 16)),
    ]
    rowAt = (row) => {
      const [count, sum1, sum2, sha] = columns.map((read) => read(row))
      return { count, sum1, sum2, sha }
    }
  } else {
    const source = column(2, (place) => bytes.readUInt16LE(place))
    const offset = column(4, u32)
    const length = column(4, u32)
    const sum = level === 0 ? column(8, u64) : column(32, (place) => bytes.toString('hex', place, place + 32))
    rowAt = (row) => {
      if (source(row) === 0xffff) return null
      const named = 20 + 20 * source(row)
      return {
        generation: bytes.toString('hex', named, named + 16),
        pack: u32(named + 16),
        offset: offset(row),
        length: length(row),
        [level === 0 ? 'xxh64' : 'sha256']: sum(row),
      }
    }
  }
  check(at === bytes.length, 'nothing follows the columns')
  return { first, rows, rowAt }
}

async function checkedObject(store, location) {
  const bytes = await store.object(location)
  check(bytes.length === location.length, `${location.length} bytes at ${JSON.stringify(location)}`)
  check(sha256(bytes) === location.sha256, `SHA-256 at ${JSON.stringify(location)}`)
  return bytes
}

async function blockAt(store, row) {
  const stored = await store.object(row)
  check(stored.length === row.length && xxh64(stored, 0n) === row.xxh64, `xxh64 of block ${JSON.stringify(row.offset)}`)
  if (stored[0] === 0) return { stored, raw: stored.subarray(1) }
  check(stored[0] === 1, `codec ${stored[0]}`)
  const size = stored.readUInt32LE(1)
  check(size <= 255 * stored.length, 'a size within 255 times the stored bytes')
  return { stored, raw: unpackLz4(stored.subarray(5), size) }
}

function* entriesOf(raw, kind) {
  for (let at = 0; at < raw.length; ) {
    const start = at
    const fields = []
    for (let n = kind === 'many' ? 3 : 2; n > 0; n--) {
      const length = raw.readInt32BE(at)
      fields.push(raw.subarray(at + 4, at + 4 + length))
      at += 4 + length
    }
    yield { key: fields[0], value: fields.at(-1), fields, bytes: raw.subarray(start, at) }
  }
}

/** The rows of all pages below a root, in the order of the blocks. */
async function* rowsBelow(store, tree, location, level) {
  const { first, rows, rowAt } = parseObject(await checkedObject(store, location), tree, level)
  for (let row = 0; row < rows; row++) {
    if (level === 0) yield { block: first + row, row: rowAt(row) }
    else yield* rowsBelow(store, tree, rowAt(row), level - 1)
  }
}

async function lookUp(store, index, key) {
  const block = index.bits === 0 ? 0 : Number(xxh64(key, BigInt(`0x${index.seed}`)) >> BigInt(64 - index.bits))
  let location = index.location
  for (let level = index.location.depth; ; level--) {
    const { first, rowAt } = parseObject(await checkedObject(store, location), 'location', level)
    const row = rowAt(Math.floor((block - first) / (level === 0 ? 1 : 256 * 512 ** (level - 1))))
    if (level > 0) {
      location = row
      continue
    }
    if (row === null) return []
    const { raw } = await blockAt(store, row)
    return [...entriesOf(raw, index.kind)].filter((entry) => entry.key.equals(key)).map(({ value }) => String(value))
  }
}

/** Everything of an index, with all that the page says of it checked. */
async function readIndex(store, index) {
  const found = {}
  const audits = []
  for await (const { row } of rowsBelow(store, 'audit', index.audit, index.audit.depth)) audits.push(row)
  let [count, bytes, sum1, sum2] = [0, 0, 0n, 0n]
  for await (const { block, row } of rowsBelow(store, 'location', index.location, index.location.depth)) {
    const audit = audits[block]
    const own = { count: 0, sum1: 0n, sum2: 0n }
    let before
    if (row !== null) {
      const { stored, raw } = await blockAt(store, row)
      check(sha256(stored).startsWith(audit.sha), `SHA-256 of block ${block}`)
      bytes += raw.length
      for (const entry of entriesOf(raw, index.kind)) {
        own.count++
        own.sum1 = add(own.sum1, xxh64(entry.bytes, 1n))
        own.sum2 = add(own.sum2, xxh64(entry.bytes, 2n))
        if (before !== undefined) check(inOrder(before.fields, entry.fields), `order in block ${block}`)
        before = entry
        const key = String(entry.key)
        found[key] = [...(found[key] ?? []), String(entry.value)]
      }
    }
    check(own.count === audit.count && own.sum1 === audit.sum1 && own.sum2 === audit.sum2, `sums of block ${block}`)
    count += own.count
    sum1 = add(sum1, own.sum1)
    sum2 = add(sum2, own.sum2)
  }
  check(audits.length === 2 ** index.bits, `${2 ** index.bits} blocks`)
  check(count === index.count && bytes === index.bytes, 'count and bytes of an index')
  for (const [key, values] of Object.entries(found)) {
    const again = await lookUp(store, index, Buffer.from(key))
    check(JSON.stringify(again) === JSON.stringify(values), `looking up ${JSON.stringify(key)}`)
  }
  return { found, sums: [hex64(sum1), hex64(sum2)], count }
}

function inOrder(a, b) {
  const differing = a.findIndex((field, i) => !field.equals(b[i]))
  return differing === -1 || Buffer.compare(a[differing], b[differing]) < 0
}

/** A version by its tag, or the active one: what it holds, and what it does not. */
export async function readVersion(store, { tag, absent = {} } = {}) {
  const pointer = await store.pointer()
  check(pointer.format === 1, 'a pointer of format 1')
  const known = [pointer.active, pointer.previous].find((version) => version?.tag === (tag ?? pointer.active.tag))
  const bytes = await store.manifest(known?.tag ?? tag)
  if (known) check(sha256(bytes) === known.manifest, 'SHA-256 of the manifest')
  const manifest = JSON.parse(bytes.toString('utf8'))
  check(manifest.minReader <= 1, 'a manifest that a reader of format 1 can read')
  const indexes = {}
  const lines = []
  for (const name of Object.keys(manifest.indexes).sort()) {
    const index = manifest.indexes[name]
    const { found, sums, count } = await readIndex(store, index)
    check(sums[0] === index.sums[0] && sums[1] === index.sums[1], `sums of ${name}`)
    lines.push(`${name} ${index.kind} ${count} ${sums.join(' ')}\n`)
    indexes[name] = found
    for (const key of absent[name] ?? [])
      check((await lookUp(store, index, Buffer.from(key))).length === 0, `${JSON.stringify(key)} is not there`)
  }
  const digest = sha256(Buffer.from(lines.join('')))
  check(digest === manifest.digest, 'the digest of the version')
  return { tag: manifest.tag, digest, indexes }
}

if (import.meta.main) {
  const [folder, dataset, tag] = process.argv.slice(2)
  process.stdout.write(JSON.stringify(await readVersion(folderStore(folder, dataset), { tag })))
}
