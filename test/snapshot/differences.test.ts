import { expect, test } from 'vitest'
import { requirePacks, requireTrees, sharesLayout, writtenBlocks } from '../../src/snapshot/differences.ts'
import { add, build, type Op, where } from './build.ts'
import { MemoryStore } from './memory-store.ts'

const FIRST = 'a'.repeat(32)
const SECOND = 'b'.repeat(32)
const rows: Op[] = Array.from({ length: 20_000 }, (_, i) => add(`key ${i}`, `value ${i}`))
const changes: Op[] = [3, 700, 4000].flatMap((n) => [
  { op: -1, key: `key ${n}`, value: `value ${n}` },
  { op: 1, key: `key ${n}`, value: `other ${n}` },
])

async function twoVersions() {
  const store = new MemoryStore()
  const first = (await build(store, [rows], { generation: FIRST })).index
  const { index: second, blocksWritten } = await build(store, [changes], { generation: SECOND, parent: first })
  return { store, first, second, blocksWritten }
}

test('the blocks that a version wrote are found without reading a block', async () => {
  const { store, first, second, blocksWritten } = await twoVersions()
  expect(sharesLayout(second, first)).toBe(true)
  store.reads.length = 0
  expect(await writtenBlocks(store, where, second, first, 100)).toHaveLength(blocksWritten)
  // Both roots, and both sides of the pages.
  expect(store.reads.length).toBeLessThanOrEqual(2 + 2 * blocksWritten)
  expect(await writtenBlocks(store, where, second, first, 2)).toHaveLength(2)
  expect(await writtenBlocks(store, where, first, first, 100)).toEqual([])
})

test('every page and node that a version wrote is required, and nothing that it shares is read', async () => {
  const { store, first, second, blocksWritten } = await twoVersions()
  await requireTrees(store, where, second, first)
  const written = [...store.objects.keys()].filter((name) => name.startsWith(SECOND)).slice(blocksWritten)
  expect(written.length).toBeGreaterThanOrEqual(4)
  for (const name of written) {
    const object = store.objects.get(name) as Uint8Array
    store.objects.delete(name)
    await expect(requireTrees(store, where, second, first), name).rejects.toMatchObject({ code: 'CORRUPT' })
    store.objects.set(name, object)
  }
})

test('a pack that is gone is named', async () => {
  const { store } = await twoVersions()
  const packs = { layout: 'packs', read: async () => [new Uint8Array(1), null] } as unknown as MemoryStore
  const sources = [FIRST, SECOND].map((generation) => ({ generation, pack: 7 }))
  await expect(requirePacks(packs, where, sources)).rejects.toMatchObject({
    code: 'CORRUPT',
    details: { object: `pack 7 of generation ${SECOND}` },
  })
  await requirePacks({ ...store, layout: 'keys' } as unknown as MemoryStore, where, sources)
})
