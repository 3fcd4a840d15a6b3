import { expect, test } from 'vitest'
import { mergeRuns } from '../../src/snapshot/merge.ts'
import { readKey, sampleBlocks, versionSource } from '../../src/snapshot/read.ts'
import { openRuns } from '../../src/snapshot/runs.ts'
import { verifyIndex, verifyVersion } from '../../src/snapshot/verify.ts'
import { add, build, manifestOf, never, runsOptions, SEED, where } from './build.ts'
import { MemoryStore } from './memory-store.ts'

const rows = (n: number, from = 0) => Array.from({ length: n }, (_, i) => add(`key ${from + i}`, `value ${from + i}`))
const generation = 'e'.repeat(32)

test('verify finds every damaged, cut or missing object and says which', async () => {
  const store = new MemoryStore()
  const { index, blocksWritten } = await build(store, [rows(600)], { bits: 9, generation })
  expect((await verifyIndex(store, where, index, { signal: never })).corrupt).toBe(0)
  // Some of the blocks, all pages and nodes.
  for (const [name, object] of [...store.objects].filter((_, i) => i % 64 === 0 || i >= blocksWritten)) {
    const damages: Array<Uint8Array | null> = [null, object.subarray(0, -1)]
    for (const at of [0, 1, Math.floor(object.length / 2), object.length - 1]) {
      const copy = Buffer.from(object)
      copy[at] = (copy[at] as number) ^ 0x40
      damages.push(copy)
    }
    for (const damaged of damages) {
      if (damaged === null) store.objects.delete(name)
      else store.objects.set(name, damaged)
      const { problems, corrupt } = await verifyIndex(store, where, index, { signal: never })
      expect(corrupt, name).toBeGreaterThan(0)
      expect(problems[0]).toMatchObject({ code: 'CORRUPT', details: { dataset: 'shop', index: 'products' } })
      expect(problems[0]?.message).toMatch(/^(block \d+|(location|audit) (page|node) at block \d+)/)
    }
    store.objects.set(name, object)
  }
})

test('several damaged blocks are all found', async () => {
  const store = new MemoryStore()
  const { index } = await build(store, [rows(5000)], { bits: 9, generation })
  for (const number of [3, 5, 300]) store.objects.delete(`${generation}/0/${number}`)
  const { corrupt, problems } = await verifyIndex(store, where, index, { signal: never })
  expect(corrupt).toBe(3)
  expect(problems).toHaveLength(3)
})

test('a manifest that claims other totals, sources or digest than its blocks have is CORRUPT', async () => {
  const store = new MemoryStore()
  const result = await build(store, [rows(300)], { generation })
  const manifest = await manifestOf(store, 1, generation, result)
  expect((await verifyVersion(store, manifest, { signal: never })).problems).toEqual([])
  const [source] = manifest.sources
  const wrong = [
    { ...manifest, indexes: { products: { ...result.index, count: 299 } } },
    { ...manifest, digest: '0'.repeat(64) },
    { ...manifest, sources: [{ ...(source as NonNullable<typeof source>), bytes: 1 }] },
  ]
  for (const other of wrong)
    expect((await verifyVersion(store, other, { signal: never })).problems).toMatchObject([{ code: 'CORRUPT' }])
})

test('a key is found with its block, and a missing one is told from a damaged block', async () => {
  const store = new MemoryStore()
  const { index } = await build(store, [rows(2000)], { generation })
  const found = await readKey(store, where, index, Buffer.from('key 77'))
  expect(found.values.map(String)).toEqual(['value 77'])
  expect((await readKey(store, where, index, Buffer.from('nothing'))).values).toEqual([])
  store.objects.delete(`${generation}/0/${found.location?.offset}`)
  await expect(readKey(store, where, index, Buffer.from('key 77'))).rejects.toMatchObject({ code: 'CORRUPT' })
})

test('a sample is of about the size asked for and holds what the version holds', async () => {
  const store = new MemoryStore()
  const { index } = await build(store, [rows(5000)])
  const sample = await sampleBlocks(store, where, index, 200)
  expect(sample.length).toBeGreaterThan(80)
  expect(sample.length).toBeLessThan(420)
  for (const { key, value } of sample) expect(`value ${key.toString().slice(4)}`).toBe(value.toString())
  expect(await sampleBlocks(store, where, { ...index, count: 0 }, 10)).toEqual([])
  expect((await sampleBlocks(store, where, index, 1e6)).length).toBe(5000)
})

test('a sample has all entries of a key, however many they are', async () => {
  const store = new MemoryStore()
  const values = Array.from({ length: 1000 }, (_, n) => add('busy', `value ${n}`, String(n)))
  const many = { kind: 'many', keyParts: 1, seed: SEED, shape: 'test', reason: null } as const
  const { index } = await build(store, [values], { index: many, bits: 0 })
  expect(await sampleBlocks(store, where, index, 10)).toHaveLength(1000)
})

test('a version can be laid out anew from itself', async () => {
  const store = new MemoryStore()
  const { index } = await build(store, [rows(5000)], { bits: 2 })
  const runs = await openRuns(runsOptions())
  const writer = runs.begin('all')
  await versionSource(store, where, index).read(writer, never)
  await writer.finish()
  const again = await mergeRuns({
    where,
    runs,
    data: store,
    writer: await store.begin('f'.repeat(32)),
    index: { kind: 'unique', keyParts: 1, seed: SEED, shape: 'test', reason: 'outgrown' },
    signal: never,
  })
  expect(again.index.bits).toBe(8)
  expect(again.index.sums).toEqual(index.sums)
})
