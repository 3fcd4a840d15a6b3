/**
 * What the snapshot code costs by itself: no PostgreSQL, no store. `node bench/codec.ts [rows]`
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import type { Location } from '../schemas/manifest.ts'
import { blockChecksum, encodeBlock, lookup, openBlock } from '../src/snapshot/block.ts'
import { ADD } from '../src/snapshot/entry.ts'
import { mergeRuns } from '../src/snapshot/merge.ts'
import { openRuns } from '../src/snapshot/runs.ts'
import { verifyIndex } from '../src/snapshot/verify.ts'
import type { DataStore, GenerationWriter } from '../src/stores/ports.ts'

const rows = Number(process.argv[2] ?? 1_000_000)
const where = { dataset: 'bench', index: 'products' }
const scan = { ...where, kind: 'unique' as const, seed: '0123456789abcdef', keyBytesMax: 512, valueBytesMax: 1 << 20 }
const index = { kind: 'unique' as const, keyParts: 1, seed: scan.seed, shape: 'bench', reason: null }
const signal = new AbortController().signal

/** An entry of about 220 bytes of JSON, written at `at`; returns where it ends. */
function writeEntry(into: Buffer, at: number, n: number, mark: number): number {
  const key = String(n)
  const value = JSON.stringify({
    id: n,
    sku: `SKU-${(n * 7919) % 1_000_003}`,
    name: `product number ${n}`,
    price_cents: ((n + mark) * 13) % 100_000,
    category: `cat${n % 50}`,
    stock: n % 100,
    description: `lorem ipsum dolor ${((n * 2_654_435_761) >>> 0).toString(36)}`,
    updated_at: `2026-05-18T10:${10 + (n % 50)}:00Z`,
    weight: ((n * 7) % 977) / 10,
  })
  at = into.writeInt32BE(key.length, at)
  at += into.write(key, at, 'latin1')
  at = into.writeInt32BE(value.length, at)
  return at + into.write(value, at, 'latin1')
}

const objects = new Map<string, Uint8Array>()
const name = (location: Location) => `${location.generation}/${location.offset}`
const data = {
  layout: 'keys',
  read: async (locations: readonly Location[]) => locations.map((location) => objects.get(name(location)) ?? null),
} as unknown as DataStore
function writerOf(generation: string): GenerationWriter {
  let number = 0
  return {
    generation,
    finish: async () => undefined,
    put: async (list) =>
      list.map((object) => {
        const location = { generation, pack: 0, offset: number++, length: object.length }
        objects.set(name(location), object)
        return location
      }),
  }
}

const table: Array<{ what: string; result: string }> = []
const tell = (what: string, result: string) => table.push({ what, result })
const ms = (value: number) => `${value.toFixed(0)} ms`

let peak = 0
const watch = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage.rss())
}, 10)

async function build(
  what: string,
  numbers: Iterable<number>,
  mark: number,
  parent?: Awaited<ReturnType<typeof mergeRuns>>,
) {
  const runs = await openRuns({ ...scan, folder: mkdtempSync(join(tmpdir(), 'snapflip-bench-')) })
  const writer = runs.begin('all')
  const chunk = Buffer.alloc(128 << 10)
  const ends: number[] = []
  let scanMs = 0
  const flush = async () => {
    const from = performance.now()
    let start = 0
    for (const end of ends) {
      writer.entry(ADD, chunk, start, end, start + 4, start + 4 + chunk.readInt32BE(start))
      start = end
    }
    ends.length = 0
    await writer.ready()
    scanMs += performance.now() - from
    await new Promise(setImmediate)
  }
  for (const n of numbers) {
    ends.push(writeEntry(chunk, ends.at(-1) ?? 0, n, mark))
    if ((ends.at(-1) as number) > chunk.length - 1024) await flush()
  }
  await flush()
  const from = performance.now()
  await writer.finish()
  const merged = await mergeRuns({
    where,
    runs,
    data,
    writer: writerOf(String(mark).padStart(32, '0')),
    index,
    signal,
    ...(parent === undefined ? {} : { parent: parent.index }),
  })
  const mergeMs = performance.now() - from
  await runs.remove()
  tell(
    what,
    `scan ${ms(scanMs)}, merge ${ms(mergeMs)}, ${merged.blocksWritten} blocks, ${(merged.bytesWritten / 1e6).toFixed(1)} MB`,
  )
  return merged
}

function* range(from: number, to: number, step: number): Generator<number> {
  for (let n = from; n < to; n += step) yield n
}

const raw = Buffer.alloc(8192)
let end = 0
for (let n = 100_000; n < 100_016; n++) end = writeEntry(raw, end, n, 0)
const entries = raw.subarray(0, end)
const stored = encodeBlock(entries)
const checksum = blockChecksum(stored)
const key = Buffer.from('100008')
function each(what: string, work: () => unknown): void {
  for (let i = 0; i < 10_000; i++) work()
  const from = performance.now()
  for (let i = 0; i < 50_000; i++) work()
  tell(what, `${((performance.now() - from) / 50).toFixed(2)} µs`)
}
each(`block of 16, ${end} bytes, to ${stored.length}: encode`, () => encodeBlock(entries))
each('block: check and open', () => openBlock(stored, checksum, 0, where))
each('block: check, open and find a key', () => lookup(openBlock(stored, checksum, 0, where), key))

const full = await build(`${rows} rows in full`, range(0, rows, 1), 1)
const next = await build('1 % more', range(rows, rows + rows / 100, 1), 2, full)
const last = await build('0.01 % more', range(2 * rows, 2 * rows + rows / 10_000, 1), 3, next)
const from = performance.now()
const { corrupt } = await verifyIndex(data, where, last.index, { signal })
tell('verify all of it', `${ms(performance.now() - from)}, ${corrupt} corrupt`)
clearInterval(watch)
tell('peak memory, the objects kept in it', `${(peak / 1e6).toFixed(0)} MB`)
console.table(Object.fromEntries(table.map(({ what, result }) => [what, result])))
