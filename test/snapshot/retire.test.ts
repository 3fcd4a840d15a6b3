import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Location, Manifest } from '../../schemas/manifest.ts'
import { diffIndex } from '../../src/snapshot/diff.ts'
import { REMOVE, SET } from '../../src/snapshot/entry.ts'
import { chooseBits, needsRelayout } from '../../src/snapshot/layout.ts'
import { planRepack } from '../../src/snapshot/repack.ts'
import { deadUnits } from '../../src/snapshot/retire.ts'
import { verifyVersion } from '../../src/snapshot/verify.ts'
import { add, build, contents, manifestOf, never, type Op, where } from './build.ts'
import { key, MemoryStore } from './memory-store.ts'

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

async function dead(store: MemoryStore, retired: Manifest, retained: Manifest[]) {
  const { generations, units } = deadUnits(store, retired, retained)
  const objects: Location[] = []
  for await (const batch of units) objects.push(...batch)
  return { generations, objects }
}

test('retiring frees exactly what no retained version uses, in whatever order versions are retired', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.nat(700), { maxLength: 20 }), { minLength: 1, maxLength: 5 }),
      fc.constantFrom(2, 6, 9),
      fc.infiniteStream(fc.nat()),
      async (changes, bits, random) => {
        const store = new MemoryStore()
        const versions = await chain(store, changes, bits)
        while (versions.length > 1) {
          const [retired] = versions.splice((random.next().value as number) % versions.length, 1) as [Manifest]
          const { generations, units } = deadUnits(store, retired, versions)
          // As a sweep does: deleted as they come, so nothing may be needed that was named before.
          for await (const batch of units)
            for (const location of batch) expect(store.objects.delete(key(location))).toBe(true)
          for (const generation of generations) await store.deleteGeneration(generation)
          for (const manifest of versions) {
            const { problems } = await verifyVersion(store, manifest, { signal: never })
            expect(problems).toEqual([])
          }
        }
        // Nothing but the last version is left.
        const left = (versions[0] as Manifest).sources.reduce((sum, source) => sum + source.objects, 0)
        expect(store.objects.size).toBe(left)
      },
    ),
    { numRuns: 20 },
  )
})

test('in packs, a pack is freed when no retained version uses any of it', async () => {
  const store = new MemoryStore('packs')
  const [one, two, three] = (await chain(
    store,
    [
      [1, 2],
      [1, 2],
    ],
    6,
  )) as [Manifest, Manifest, Manifest]
  expect(await dead(store, one, [two, three])).toEqual({ generations: [], objects: [] })
  // What the second wrote, the third replaced.
  expect((await dead(store, two, [one, three])).generations).toEqual([generationOf(2)])
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
