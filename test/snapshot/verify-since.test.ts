import { expect, test } from 'vitest'
import type { IndexManifest, Location } from '../../schemas/manifest.ts'
import { verifyIndex } from '../../src/snapshot/verify.ts'
import { add, build, never, type Op, where } from './build.ts'
import { MemoryStore } from './memory-store.ts'

const rows = (n: number, mark: string): Op[] => Array.from({ length: n }, (_, i) => add(`key ${i}`, `${mark} ${i}`))
const update = (n: number): Op[] => [
  { op: -1, key: `key ${n}`, value: `first ${n}` },
  { op: 1, key: `key ${n}`, value: `second ${n}` },
]
const FIRST = 'a'.repeat(32)
const SECOND = 'b'.repeat(32)
const changed = [3, 700, 701, 4000]

/** Counts what is read, by generation. */
class CountingStore extends MemoryStore {
  readonly generationsRead: string[] = []
  override read(locations: readonly Location[]) {
    this.generationsRead.push(...locations.map(({ generation }) => generation))
    return super.read(locations)
  }
}

async function twoVersions() {
  const store = new CountingStore()
  const first = await build(store, [rows(20_000, 'first')], { generation: FIRST })
  const second = await build(store, [changed.flatMap(update)], { generation: SECOND, parent: first.index })
  const verify = (index: IndexManifest = second.index, since: IndexManifest = first.index) =>
    verifyIndex(store, where, index, { signal: never, since })
  return { store, first: first.index, second: second.index, written: second.blocksWritten, verify }
}

test('what an incremental version shares with its parent is not read again, and the totals still are the whole index', async () => {
  const { store, first, second, written, verify } = await twoVersions()
  const whole = await verifyIndex(store, where, second, { signal: never })
  store.generationsRead.length = 0
  const read = await verify()
  expect(read.problems).toEqual([])
  expect(read.blocks).toBe(written)
  expect([read.count, read.bytes, read.sums]).toEqual([whole.count, whole.bytes, whole.sums])
  expect(read.count).toBe(20_000)
  // Of the parent: its two roots, pages of both trees and the blocks that were replaced.
  expect(store.generationsRead.filter((generation) => generation === FIRST).length).toBeLessThanOrEqual(2 + 3 * written)
  // Between a version and itself there is nothing to read.
  store.generationsRead.length = 0
  expect((await verify(first, first)).problems).toEqual([])
  expect(store.generationsRead).toEqual([])
})

test('every object that the version wrote is found when it is damaged, cut or missing', async () => {
  const { store, verify } = await twoVersions()
  const written = [...store.objects].filter(([name]) => name.startsWith(SECOND))
  expect(written.length).toBeGreaterThan(changed.length)
  for (const [name, object] of written) {
    const flipped = Buffer.from(object)
    flipped[flipped.length >> 1] = (flipped[flipped.length >> 1] as number) ^ 0x40
    for (const damaged of [null, object.subarray(0, -1), flipped]) {
      if (damaged === null) store.objects.delete(name)
      else store.objects.set(name, damaged)
      const { corrupt, problems } = await verify()
      expect(corrupt, name).toBeGreaterThan(0)
      expect(problems[0]).toMatchObject({ code: 'CORRUPT', details: { dataset: 'shop', index: 'products' } })
    }
    store.objects.set(name, object)
  }
  expect((await verify()).corrupt).toBe(0)
})

test('a page put in the place of another, or of another version, is found', async () => {
  const { first, second, verify } = await twoVersions()
  // The parent's audit tree under new locations: it tells of the blocks as they were.
  expect((await verify({ ...second, audit: first.audit })).corrupt).toBeGreaterThan(0)
  // The parent's locations under the new audit tree: the blocks are not the ones that the sums are of.
  expect((await verify({ ...second, location: first.location })).corrupt).toBeGreaterThan(0)
  expect((await verify({ ...second, location: second.audit })).corrupt).toBeGreaterThan(0)
})

test('wrong totals are found: count, bytes, and each of the sums', async () => {
  const { second, verify } = await twoVersions()
  const [one, two] = second.sums
  const wrong: Array<Partial<IndexManifest>> = [
    { count: second.count + 1 },
    { bytes: second.bytes - 1 },
    { sums: [two, two] },
    { sums: [one, one] },
  ]
  for (const other of wrong) expect((await verify({ ...second, ...other })).corrupt, JSON.stringify(other)).toBe(1)
})

test('a parent whose totals are wrong does not make the version right', async () => {
  const { first, second, verify } = await twoVersions()
  expect((await verify(second, { ...first, count: first.count - 1 })).corrupt).toBe(1)
  expect((await verify(second, { ...first, sums: [first.sums[1], first.sums[0]] })).corrupt).toBe(1)
})

test('an index of another layout or hash is read whole, whatever it is said to be built upon', async () => {
  const { store, first, second } = await twoVersions()
  const other = await build(store, [rows(20_000, 'other')], { bits: 9 })
  const read = await verifyIndex(store, where, second, { signal: never, since: other.index })
  expect(read.problems).toEqual([])
  expect(read.blocks).toBeGreaterThan(1000)
  expect(first.bits).not.toBe(other.index.bits)
})
