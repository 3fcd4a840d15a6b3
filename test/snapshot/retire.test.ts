import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import type { SnapflipError } from '../../src/core/errors.ts'
import { diffIndex } from '../../src/snapshot/diff.ts'
import { REMOVE, SET } from '../../src/snapshot/entry.ts'
import { chooseBits, needsRelayout } from '../../src/snapshot/layout.ts'
import { planRepack } from '../../src/snapshot/repack.ts'
import { sweepVersion } from '../../src/snapshot/retire.ts'
import { verifyVersion } from '../../src/snapshot/verify.ts'
import type { DataStore } from '../../src/stores/ports.ts'
import { add, build, contents, manifestOf, never, type Op, where } from './build.ts'
import { CUT_OFF, CutOff } from './cut-off.ts'
import { key, MemoryStore } from './memory-store.ts'
import { buildVersion, objectsOf } from './versions.ts'

const rows = (n: number, from = 0) => Array.from({ length: n }, (_, i) => add(`key ${from + i}`, `value ${from + i}`))
const generationOf = (n: number) => n.toString(16).padStart(32, '0')

/** A chain of versions, each from its parent by some SETs. */
async function chain(store: MemoryStore, changes: number[][], bits: number): Promise<Manifest[]> {
  let result = await build(store, [rows(600)], { bits, generation: generationOf(1) })
  const manifests = [await manifestOf(store, 1, generationOf(1), result)]
  for (const [i, keys] of changes.entries()) {
    const parent = manifests.at(-1) as Manifest
    const ops = keys.map((n): Op => ({ op: SET, key: `key ${n}`, value: n % 7 === 0 ? null : `new ${i} ${n}` }))
    const generation = generationOf(i + 2)
    result = await build(store, [ops], {
      parent: parent.indexes.products as NonNullable<typeof result.index>,
      generation,
    })
    manifests.push(await manifestOf(store, i + 2, generation, result, parent))
  }
  return manifests
}

const onDamage = (error: unknown) => {
  throw error
}

/** Sweeps these versions, beside those that stay. */
async function sweep(data: DataStore, leaving: readonly Manifest[], retained: readonly Manifest[]): Promise<void> {
  for (const [n, manifest] of leaving.entries()) {
    await sweepVersion(data, manifest, { retained, leaving: leaving.slice(n + 1), onDamage })
  }
}

async function expectExactly(store: MemoryStore, versions: readonly Manifest[]): Promise<void> {
  const needed = new Set<string>()
  for (const manifest of versions) {
    expect((await verifyVersion(store, manifest, { signal: never })).problems).toEqual([])
    for (const location of await objectsOf(store, manifest)) needed.add(key(location))
  }
  expect([...store.objects.keys()].sort()).toEqual([...needed].sort())
}

test('sweeping frees exactly what no other version uses, whichever leave together and wherever a sweep is cut off', async () => {
  const version = fc.record({ changed: fc.array(fc.nat(700), { maxLength: 20 }), parent: fc.nat() })
  await fc.assert(
    fc.asyncProperty(
      fc.array(version, { minLength: 1, maxLength: 6 }),
      fc.constantFrom(2, 6, 9),
      fc.infiniteStream(fc.nat()),
      async (changes, bits, random) => {
        const below = (limit: number) => (random.next().value as number) % limit
        const store = new MemoryStore()
        const ops = (value: string, changed: readonly number[]) =>
          changed.map((n): Op => ({ op: SET, key: `key ${n}`, value: n % 7 === 0 ? null : `${value} ${n}` }))
        const versions = [await buildVersion(store, 1, { products: rows(600), stock: rows(300) }, { bits })]
        for (const [i, { changed, parent }] of changes.entries()) {
          // Upon any version, as after a rollback.
          const from = versions[parent % versions.length] as Manifest
          const indexes = { products: ops(`p${i}`, changed), stock: ops(`s${i}`, changed.slice(0, 5)) }
          versions.push(await buildVersion(store, i + 2, indexes, { parent: from, bits }))
        }
        while (versions.length > 1) {
          const count = 1 + below(Math.min(3, versions.length - 1))
          const leaving = Array.from({ length: count }, () => versions.splice(below(versions.length), 1)[0] as Manifest)
          const cutOff = new CutOff(store, below(16))
          await sweep(cutOff, leaving, versions).catch((error) => expect(error).toBe(CUT_OFF))
          // In whatever order they are taken up again.
          await sweep(store, below(2) === 0 ? leaving : leaving.toReversed(), versions)
          await expectExactly(store, versions)
        }
      },
    ),
    { numRuns: 20 },
  )
})

test('nothing is deleted where a version that stays cannot be read; once it can, or has left as well, the sweep ends', async () => {
  const store = new MemoryStore()
  const [one, two, three] = (await chain(store, [[1], [2]], 9)) as [Manifest, Manifest, Manifest]
  const root = key((two.indexes.products as IndexManifest).location)
  const bytes = store.objects.get(root) as Uint8Array
  store.objects.delete(root)
  const before = store.objects.size
  await expect(sweep(store, [one], [two, three])).rejects.toMatchObject({ code: 'CORRUPT', details: { tag: two.tag } })
  expect(store.objects.size).toBe(before)
  store.objects.set(root, Buffer.alloc(bytes.length))
  const told: string[] = []
  const others = {
    retained: [three],
    leaving: [two],
    onDamage: (error: SnapflipError) => told.push(`${error.details.tag}`),
  }
  await sweepVersion(store, one, others)
  expect(told).toEqual([two.tag])
  expect((await verifyVersion(store, three, { signal: never })).problems).toEqual([])
  store.objects.set(root, bytes)
  await sweep(store, [two], [three])
  await expectExactly(store, [three])
})

test('in packs, a pack is freed when no other version uses any of it', async () => {
  const store = new MemoryStore('packs')
  const versions = await chain(
    store,
    [
      [1, 2],
      [1, 2],
    ],
    6,
  )
  const [one, two, three] = versions as [Manifest, Manifest, Manifest]
  const generations = () => [...new Set([...store.objects.keys()].map((name) => name.slice(0, 32)))]
  await sweep(store, [one], [two, three])
  expect(generations()).toEqual([1, 2, 3].map(generationOf))
  // What the second wrote, the third replaced.
  await sweep(store, [two], [three])
  expect(generations()).toEqual([1, 3].map(generationOf))
})

test('a repack moves what lies in the smallest packs, so that they can go', async () => {
  const store = new MemoryStore('packs')
  const versions = await chain(
    store,
    Array.from({ length: 9 }, (_, i) => [i * 10]),
    9,
  )
  const parent = versions.at(-1) as Manifest
  expect(planRepack('keys', parent).size).toBe(0)
  expect(planRepack('packs', parent).size).toBe(0)
  const repack = planRepack('packs', parent, { sourcesMax: 4 })
  expect(repack.size).toBe(parent.sources.length - 2)
  const index = parent.indexes.products as NonNullable<(typeof parent.indexes)['products']>
  const result = await build(store, [[{ op: SET, key: 'key 599', value: 'x' }]], {
    parent: index,
    repack,
    generation: generationOf(99),
  })
  const manifest = await manifestOf(store, 20, generationOf(99), result, parent)
  for (const source of manifest.sources) expect(repack.has(`${source.generation}/${source.pack}`)).toBe(false)
  expect((await verifyVersion(store, manifest, { signal: never })).problems).toEqual([])
  expect(result.counts).toMatchObject({ updated: 1, inserted: 0, deleted: 0 })
  // Nothing is moved beyond the budget.
  expect(planRepack('packs', parent, { sourcesMax: 4, bytesMax: 1 }).size).toBe(0)
})

test('a diff names what was inserted, updated and deleted, and reads only blocks that differ', async () => {
  const store = new MemoryStore()
  const a = await build(store, [rows(5000)], { bits: 9 })
  const ops: Op[] = [
    { op: SET, key: 'key 1', value: 'other' },
    { op: REMOVE, key: 'key 2', value: 'value 2' },
    add('new', 'x'),
  ]
  const b = await build(store, [ops], { parent: a.index })
  store.reads = []
  const diff = await diffIndex(store, { where, index: a.index }, { where, index: b.index }, never)
  expect(diff).toMatchObject({ inserted: 1, updated: 1, deleted: 1, comparable: true })
  expect(diff.sample).toHaveLength(3)
  expect(diff.sample).toEqual(
    expect.arrayContaining([
      { key: 'key 1', change: 'updated' },
      { key: 'key 2', change: 'deleted' },
      { key: 'new', change: 'inserted' },
    ]),
  )
  expect(diff.blocksRead).toBeLessThanOrEqual(6)
  expect(store.reads.length).toBeLessThanOrEqual(2 + 4 + 6)
})

test('versions of different layouts are compared all the same, and equal content is equal without reading', async () => {
  const store = new MemoryStore()
  const a = await build(store, [rows(3000)], { bits: 3 })
  const b = await build(store, [[...rows(2990, 5), add('key 1', 'other')]], { bits: 10 })
  const diff = await diffIndex(store, { where, index: a.index }, { where, index: b.index }, never)
  expect(diff).toMatchObject({ inserted: 0, updated: 1, deleted: 9, comparable: true })
  const back = await diffIndex(store, { where, index: b.index }, { where, index: a.index }, never)
  expect(back).toMatchObject({ inserted: 9, updated: 1, deleted: 0 })
  const same = await build(store, [rows(3000)], { bits: 9 })
  store.reads = []
  expect(await diffIndex(store, { where, index: a.index }, { where, index: same.index }, never)).toMatchObject({
    inserted: 0,
    updated: 0,
    deleted: 0,
  })
  expect(store.reads).toEqual([])
  expect(await contents(store, same.index)).toHaveLength(3000)
})

test('a layout suits its count and its bytes, and is outgrown at three times or an eighth of that', () => {
  expect(chooseBits(0, 0)).toBe(0)
  expect(chooseBits(1_000_000, 220_000_000)).toBe(16)
  // Large values: fewer to a block, but never more blocks than entries.
  expect(chooseBits(1000, 1000 * 100_000)).toBe(10)
  const index = { bits: 10, count: 16_384, bytes: 16_384 * 200 }
  expect(needsRelayout(index)).toBe(false)
  expect(needsRelayout({ ...index, count: 16_384 * 3 + 100 })).toBe(true)
  expect(needsRelayout({ ...index, count: 1900, bytes: 1900 * 200 })).toBe(true)
  expect(needsRelayout({ bits: 0, count: 0, bytes: 0 })).toBe(false)
})
