/**
 * Makes the test vectors in ./vectors: `node test/snapshot/make-vectors.ts`. They are part of the format: when they change, so must
 * the format number (see docs/format.md).
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Manifest } from '../../schemas/manifest.ts'
import { SET } from '../../src/snapshot/entry.ts'
import { encodeManifest, manifestHash } from '../../src/snapshot/manifest.ts'
import { add, build, manifestOf, type Op } from './build.ts'
import { MemoryStore } from './memory-store.ts'

export const FOLDER = join(import.meta.dirname, 'vectors')
const GENERATIONS = ['0196e1f0000070008000000000000001', '0196e1f0000070008000000000000002'] as const

export interface Vector {
  manifest: string
  sha256: string
  version: string
  /** File → where the manifest, pages and nodes say it lies. */
  objects: Record<string, { generation: string; pack: number; offset: number; length: number }>
  entries: Record<string, Array<{ key: string; values: string[] }>>
  absent: string[]
}

/** Two versions of a unique index, the second incremental; one of a `many` index; one whose tree has a level of nodes. */
export async function makeVectors(): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>()
  const write = (name: string, store: MemoryStore, manifest: Manifest, ops: readonly Op[], absent: string[]) => {
    const bytes = encodeManifest(manifest)
    files.set(`${name}.manifest.bin`, bytes)
    const used = new Set(manifest.sources.map((source) => source.generation))
    const objects: Vector['objects'] = {}
    for (const [place, object] of store.objects) {
      const [generation, pack, offset] = place.split('/') as [string, string, string]
      if (!used.has(generation)) continue
      const file = `${name}.${GENERATIONS.indexOf(generation as (typeof GENERATIONS)[0]) + 1}-${offset}.bin`
      objects[file] = { generation, pack: Number(pack), offset: Number(offset), length: object.length }
      files.set(file, object)
    }
    const keys = Map.groupBy(ops, (op) => op.key)
    const vector: Vector = {
      manifest: `${name}.manifest.bin`,
      sha256: manifestHash(bytes),
      version: manifest.tag,
      objects,
      entries: {
        products: [...keys].map(([key, list]) => ({
          key,
          values: list
            .toSorted((a, b) => compare(a.order ?? '', b.order ?? '') || compare(a.value ?? '', b.value ?? ''))
            .map((op) => op.value as string),
        })),
      },
      absent,
    }
    files.set(`${name}.json`, Buffer.from(`${JSON.stringify(vector, null, 1)}\n`))
  }
  const row = (n: number) => JSON.stringify({ sku: `SKU-${n}`, name: `Produkt № ${n}`, price_cents: n * 100 })
  const rows = Array.from({ length: 60 }, (_, n) => add(String(n), row(n)))

  const unique = new MemoryStore()
  const one = await build(unique, [rows], { generation: GENERATIONS[0] })
  const first = await manifestOf(unique, 1, GENERATIONS[0], one)
  write('unique', unique, first, rows, ['60', '', '059'])
  const sets: Op[] = [
    { op: SET, key: '7', value: row(7000) },
    { op: SET, key: '8', value: null },
    { op: SET, key: 'schlüssel', value: row(60) },
  ]
  const two = await build(unique, [sets], { parent: one.index, generation: GENERATIONS[1] })
  const now = [...rows.filter((op) => op.key !== '7' && op.key !== '8'), add('7', row(7000)), add('schlüssel', row(60))]
  write('incremental', unique, await manifestOf(unique, 2, GENERATIONS[1], two, first), now, ['8', 'schlussel'])

  const many = new MemoryStore()
  const values = [
    add('red', '3', '0100'),
    add('red', '1', '0200'),
    add('red', '2', '0100'),
    add('red', '2', '0100'),
    add('', '9', ''),
    add('two\0parts', '4', '1'),
  ]
  const index = { kind: 'many' as const, keyParts: 1, seed: '0123456789abcdef', shape: 'test', reason: null }
  const built = await build(many, [values], { index, generation: GENERATIONS[0] })
  write('many', many, await manifestOf(many, 3, GENERATIONS[0], built), values, ['blue', 'two'])

  const tall = new MemoryStore()
  const few = rows.slice(0, 5)
  const deep = await build(tall, [few], { bits: 9, generation: GENERATIONS[0] })
  write('tall', tall, await manifestOf(tall, 4, GENERATIONS[0], deep), few, ['5'])
  return files
}

const compare = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))

if (import.meta.main) {
  rmSync(FOLDER, { recursive: true, force: true })
  mkdirSync(FOLDER, { recursive: true })
  for (const [name, bytes] of await makeVectors()) writeFileSync(join(FOLDER, name), bytes)
}
