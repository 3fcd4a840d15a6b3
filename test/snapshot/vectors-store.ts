/**
 * Makes the store in ./vectors-store, a whole dataset as the folder driver keeps it: `node test/snapshot/vectors-store.ts`. Like the
 * vectors it is part of the format; `vectors-reader.mjs` reads it.
 */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Manifest } from '../../schemas/manifest.ts'
import type { VersionRef } from '../../schemas/pointer.ts'
import { SET } from '../../src/snapshot/entry.ts'
import { contentDigest, encodeManifest, manifestHash } from '../../src/snapshot/manifest.ts'
import { type MergeOptions, type MergeResult, mergeRuns } from '../../src/snapshot/merge.ts'
import { manifestSources } from '../../src/snapshot/read.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { openStore } from '../../src/stores/open.ts'
import type { Store } from '../../src/stores/ports.ts'
import { add, never, type Op, runsOf, where } from './build.ts'

export const STORE = join(import.meta.dirname, 'vectors-store')
export const DATASET = where.dataset
const BEGUN = '2026-05-18T10:00:00.000Z'
const GENERATIONS = ['0196e1f0000070008000000000000001', '0196e1f0000070008000000000000002'] as const

/** Index → key → its values, in order: what a reader must find. Parts of a key are joined by a zero byte. */
export type Content = Record<string, Record<string, string[]>>
/** Oldest first. */
export const CONTENTS: Content[] = []

const product = (n: number, cents = n * 100) =>
  JSON.stringify({ sku: `SKU-${n}`, name: `Produkt № ${n}`, price_cents: cents })
/** Both kinds of long run that LZ4 has: of literals and of a match. */
const LONG = JSON.stringify({
  digits: Array.from({ length: 60 }, (_, n) => (n * 7919) % 1009).join(''),
  text: 'lamp '.repeat(400),
})

const PRODUCTS = { ...Object.fromEntries(Array.from({ length: 60 }, (_, n) => [String(n), product(n)])), long: LONG }
const BY_CATEGORY = [
  ['lamps\0red', '0100', '3'],
  ['lamps\0red', '0200', '1'],
  ['lamps\0red', '0100', '2'],
  ['lamps\0red', '0100', '2'],
  ['lamps\0', '', '9'],
  ['\0red', '0100', '4'],
] as const
const SPARSE = { one: '1', two: '{"n":2}', '': '""' }

/** Two versions: the second changes one product, deletes one and adds one, adds to a category, and shares all else. */
export async function fillStore(store: Store): Promise<void> {
  const set = (key: string, value: string | null): Op => ({ op: SET, key, value })
  const of = (kind: 'unique' | 'many', keyParts: number, seed: string): MergeOptions['index'] => ({
    kind,
    keyParts,
    seed,
    shape: 'vector',
    reason: null,
  })
  const indexes = {
    products: of('unique', 1, '0123456789abcdef'),
    byCategory: of('many', 2, 'fedcba9876543210'),
    sparse: of('unique', 1, '00000000000000ff'),
  }
  const first: Record<keyof typeof indexes, Op[]> = {
    products: Object.entries(PRODUCTS).map(([key, value]) => add(key, value)),
    byCategory: BY_CATEGORY.map(([key, order, value]) => add(key, value, order)),
    sparse: Object.entries(SPARSE).map(([key, value]) => add(key, value)),
  }
  const second: Record<keyof typeof indexes, Op[]> = {
    products: [set('7', product(7, 1)), set('8', null), set('schlüssel', product(60))],
    byCategory: [add('lamps\0red', '0', '0300')],
    sparse: [],
  }
  let parent: Manifest | null = null
  for (const [at, changes] of [first, second].entries()) {
    const generation = GENERATIONS[at] as string
    const writer = await store.data.begin(generation)
    const built: Record<string, MergeResult> = {}
    for (const [name, index] of Object.entries(indexes)) {
      const runs = await runsOf([changes[name as keyof typeof indexes]], { kind: index.kind, seed: index.seed })
      built[name] = await mergeRuns({
        where: { dataset: DATASET, index: name },
        runs,
        data: store.data,
        writer,
        index,
        signal: never,
        ...(parent === null ? {} : { parent: (parent as Manifest).indexes[name] }),
        // More blocks than one page covers: a tree with a level of nodes.
        ...(name === 'sparse' && parent === null ? { bits: 9 } : {}),
      } as MergeOptions)
      await runs.remove()
    }
    await writer.finish()
    parent = await seal(store, at + 1, generation, built, parent)
  }
}

async function seal(
  store: Store,
  ordinal: number,
  generation: string,
  built: Record<string, MergeResult>,
  parent: Manifest | null,
): Promise<Manifest> {
  const indexes = Object.fromEntries(Object.entries(built).map(([name, { index }]) => [name, index]))
  const manifest: Manifest = {
    format: 1,
    minReader: 1,
    dataset: DATASET,
    tag: `v20260518-0${ordinal}`,
    ordinal,
    parent: parent === null ? null : { tag: parent.tag, manifest: manifestHash(encodeManifest(parent)) },
    createdAt: BEGUN,
    generation,
    watermark: {
      id: `0190d2f8-6f1c-7cc0-98c4-dc0c0c07398${ordinal}`,
      snapshot: `10:${20 + ordinal}:10,12`,
      nonce: '00112233445566778899aabbccddeeff',
      system: '7000000000000000001/5',
      at: BEGUN,
    },
    digest: contentDigest(indexes),
    indexes,
    sources: await manifestSources(store.data, DATASET, parent, built),
    writer: 'vectors',
  }
  const bytes = encodeManifest(manifest)
  await store.data.putManifest(manifest.tag, bytes)
  const { pointer } = (await store.pointer.read()) ?? { pointer: null }
  const to: VersionRef = { tag: manifest.tag, ordinal, digest: manifest.digest, manifest: manifestHash(bytes) }
  await changePointer(
    store.pointer,
    {
      kind: 'flip',
      flipId: `0190d2f8-6f1c-7cc0-98c4-dc0c0c07399${ordinal}`,
      expected: {
        tag: pointer?.active?.tag ?? null,
        epoch: pointer?.epoch ?? { registry: 0, breakGlass: 0 },
      },
      to,
      epoch: { registry: ordinal, breakGlass: 0 },
      freshAsOf: { snapshot: manifest.watermark.snapshot, at: BEGUN },
    },
    { dataset: DATASET },
  )
  return manifest
}

const values = (entries: Record<string, string>) =>
  Object.fromEntries(Object.entries(entries).map(([key, value]) => [key, [value]]))
const { 8: _deleted, ...rest } = PRODUCTS as Record<string, string>
CONTENTS.push(
  {
    products: values(PRODUCTS),
    byCategory: { 'lamps\0red': ['2', '2', '3', '1'], 'lamps\0': ['9'], '\0red': ['4'] },
    sparse: values(SPARSE),
  },
  {
    products: values({ ...rest, 7: product(7, 1), schlüssel: product(60) }),
    byCategory: { 'lamps\0red': ['2', '2', '3', '1', '0'], 'lamps\0': ['9'], '\0red': ['4'] },
    sparse: values(SPARSE),
  },
)

/** The store in a folder, with the one thing that a clock wrote set to what the vectors say. */
export async function makeStore(folder: string): Promise<void> {
  const store = await openStore(`file:${folder}`, { dataset: DATASET })
  await fillStore(store)
  await store.close()
  for (const generation of GENERATIONS) writeFileSync(join(folder, DATASET, 'packs', generation, 'begun'), BEGUN)
  rmSync(join(folder, DATASET, 'tmp'), { recursive: true })
}

if (import.meta.main) {
  rmSync(STORE, { recursive: true, force: true })
  await makeStore(STORE)
}
