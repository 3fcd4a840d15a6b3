import { randomBytes } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import { ADD, type EntryOp } from '../../src/snapshot/entry.ts'
import { contentDigest } from '../../src/snapshot/manifest.ts'
import { type MergeOptions, type MergeResult, mergeRuns } from '../../src/snapshot/merge.ts'
import { manifestSources, readIndex } from '../../src/snapshot/read.ts'
import type { RunWriter } from '../../src/snapshot/run-writer.ts'
import { openRuns, type Runs, type RunsOptions } from '../../src/snapshot/runs.ts'
import type { DataStore } from '../../src/stores/ports.ts'

export const where = { dataset: 'shop', index: 'products' }
export const SEED = '0123456789abcdef'
export const never = new AbortController().signal

export interface Op {
  op: EntryOp
  key: string
  order?: string
  /** Null with SET: deletes the key. */
  value: string | null
}

export const add = (key: string, value: string, order?: string): Op => ({
  op: ADD,
  key,
  value,
  ...(order === undefined ? {} : { order }),
})

const field = (text: string | null) => {
  const length = Buffer.alloc(4)
  length.writeInt32BE(text === null ? -1 : Buffer.byteLength(text))
  return [length, Buffer.from(text ?? '')]
}

export function encodeEntry(op: Pick<Op, 'key' | 'order' | 'value'>, many: boolean): Buffer {
  return Buffer.concat([...field(op.key), ...(many ? field(op.order ?? '') : []), ...field(op.value)])
}

export function newFolder(): string {
  return mkdtempSync(join(tmpdir(), 'snapflip-runs-'))
}

export function runsOptions(options: Partial<RunsOptions> = {}): RunsOptions {
  return {
    ...where,
    kind: 'unique',
    seed: SEED,
    keyBytesMax: 512,
    valueBytesMax: 1 << 20,
    folder: newFolder(),
    ...options,
  }
}

export async function feed(writer: RunWriter, ops: readonly Op[], many: boolean): Promise<void> {
  for (const op of ops) {
    // Between other bytes, as a source's buffer has it.
    const entry = encodeEntry(op, many)
    const bytes = Buffer.concat([Buffer.from('xyz'), entry, Buffer.from('xyz')])
    writer.entry(op.op, bytes, 3, 3 + entry.length, 7, 7 + Buffer.byteLength(op.key))
    await writer.ready()
  }
}

export async function runsOf(chunks: readonly (readonly Op[])[], options: Partial<RunsOptions> = {}): Promise<Runs> {
  const runs = await openRuns(runsOptions(options))
  for (const [i, chunk] of chunks.entries()) {
    const writer = runs.begin(`${i}`)
    await feed(writer, chunk, runs.many)
    await writer.finish()
  }
  return runs
}

/** Scans the chunks, merges them onto the parent, cleans up. */
export async function build(
  data: DataStore,
  chunks: readonly (readonly Op[])[],
  options: Partial<MergeOptions> & { runsOptions?: Partial<RunsOptions>; generation?: string } = {},
): Promise<MergeResult> {
  const { runsOptions: scan, generation, ...merge } = options
  const kind = merge.index?.kind ?? merge.parent?.kind ?? 'unique'
  const runs = await runsOf(chunks, { kind, ...scan })
  const writer = await data.begin(generation ?? randomBytes(16).toString('hex'))
  try {
    const result = await mergeRuns({
      where,
      runs,
      data,
      writer,
      index: { kind, keyParts: 1, seed: SEED, shape: 'test', reason: null },
      signal: never,
      ...merge,
    })
    await writer.finish()
    return result
  } finally {
    await runs.remove()
  }
}

/** Entries of a built index, as JSON lines in block order. */
export async function contents(data: DataStore, index: IndexManifest): Promise<string[]> {
  const found: string[] = []
  for await (const batch of readIndex(data, where, index, never))
    for (const [, raw] of batch)
      for (let at = 0; at < raw.length; ) {
        const parts: string[] = []
        for (let i = 0; i < (index.kind === 'many' ? 3 : 2); i++) {
          const length = raw.readInt32BE(at)
          parts.push(raw.toString('utf8', at + 4, at + 4 + length))
          at += 4 + length
        }
        found.push(JSON.stringify(parts))
      }
  return found
}

/** A manifest around one index, as a sealing build would make it. */
export async function manifestOf(
  data: DataStore,
  ordinal: number,
  generation: string,
  result: MergeResult,
  parent: Manifest | null = null,
): Promise<Manifest> {
  const indexes = { products: result.index }
  return {
    format: 1,
    minReader: 1,
    dataset: where.dataset,
    tag: `v20260518-${String(ordinal).padStart(2, '0')}`,
    ordinal,
    parent: null,
    createdAt: '2026-05-18T10:00:00.000Z',
    generation,
    watermark: {
      id: '0190d2f8-6f1c-7cc0-98c4-dc0c0c07398f',
      snapshot: '10:20:10,12',
      nonce: '00112233445566778899aabbccddeeff',
      system: '7000000000000000001/5',
      at: '2026-05-18T10:00:00.000Z',
    },
    digest: contentDigest(indexes),
    indexes,
    sources: await manifestSources(data, where.dataset, parent, { products: result }),
    writer: 'test',
  }
}
