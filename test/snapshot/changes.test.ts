import { expect, test } from 'vitest'
import type { IndexManifest } from '../../schemas/manifest.ts'
import { readChanges } from '../../src/snapshot/changes.ts'
import { diffIndex } from '../../src/snapshot/diff.ts'
import { REMOVE } from '../../src/snapshot/entry.ts'
import { readEntries, sampleEntries } from '../../src/snapshot/read.ts'
import { add, build, never, type Op, where } from './build.ts'
import { MemoryStore } from './memory-store.ts'

const remove = (key: string, value: string, order?: string): Op => ({ ...add(key, value, order), op: REMOVE })
const rows = (n: number) => Array.from({ length: n }, (_, i) => add(`key ${i}`, `value ${i}`))

async function changes(data: MemoryStore, before: IndexManifest | null, after: IndexManifest): Promise<string[]> {
  const found: string[] = []
  const a = before === null ? null : { where, index: before }
  for await (const batch of readChanges(data, a, { where, index: after }, never))
    for (const { key, before, after } of batch) found.push(`${key}: ${before} > ${after}`)
  return found.toSorted()
}

test('each entry that a version has otherwise than its parent is a change, and no other', async () => {
  const data = new MemoryStore()
  const { index: parent } = await build(data, [rows(3000)])
  const ops = [
    remove('key 1', 'value 1'),
    remove('key 2', 'value 2'),
    add('key 2', 'new'),
    add('another', 'one'),
    remove('key 3', 'value 3'),
    add('key 3', 'value 3'),
  ]
  const { index } = await build(data, [ops], { parent })
  expect(await changes(data, parent, index)).toEqual([
    'another: null > one',
    'key 1: value 1 > null',
    'key 2: value 2 > new',
  ])
  expect(await changes(data, index, index)).toEqual([])
  const { inserted, updated, deleted } = await diffIndex(data, { where, index: parent }, { where, index }, never)
  expect({ inserted, updated, deleted }).toEqual({ inserted: 1, updated: 1, deleted: 1 })
})

test('under one key of many values, what was taken and what was added are paired', async () => {
  const data = new MemoryStore()
  const many = { index: { kind: 'many', keyParts: 1, seed: '0123456789abcdef', shape: 'test', reason: null } } as const
  const { index: parent } = await build(data, [[add('a', '1', '1'), add('a', '2', '2'), add('b', '1', '1')]], many)
  const ops = [remove('a', '1', '1'), remove('a', '2', '2'), add('a', '3', '3'), add('b', '1', '1')]
  const { index } = await build(data, [ops], { ...many, parent })
  expect(await changes(data, parent, index)).toEqual(['a: 1 > 3', 'a: 2 > null', 'b: null > 1'])
})

test('the same rows in another number of blocks are no change; without a parent, or under another seed, all is', async () => {
  const data = new MemoryStore()
  const { index } = await build(data, [rows(300)], { bits: 4 })
  const { index: wider } = await build(data, [[...rows(300), add('more', 'x')]], { bits: 6 })
  expect(await changes(data, index, wider)).toEqual(['more: null > x'])
  const { index: small } = await build(data, [rows(2)])
  expect(await changes(data, null, small)).toEqual(['key 0: null > value 0', 'key 1: null > value 1'])
  const { index: other } = await build(data, [rows(1)], {
    index: { kind: 'unique', keyParts: 1, seed: 'fedcba9876543210', shape: 'test', reason: null },
    runsOptions: { seed: 'fedcba9876543210' },
  })
  expect(await changes(data, other, small)).toHaveLength(3)
})

test('a sample is of about the size asked for, and of entries that are there; a large one is all of them', async () => {
  const data = new MemoryStore()
  const { index } = await build(data, [rows(5000)])
  const read = async (entries: AsyncIterable<readonly { key: Buffer }[]>) => {
    const keys: string[] = []
    for await (const batch of entries) keys.push(...batch.map(({ key }) => key.toString()))
    return keys
  }
  const all = await read(readEntries(data, { where, index }, never))
  expect(new Set(all).size).toBe(5000)
  const sample = await read(sampleEntries(data, { where, index }, 500))
  expect(sample.length).toBeGreaterThan(250)
  expect(sample.length).toBeLessThan(1000)
  for (const key of sample) expect(all).toContain(key)
  expect((await read(sampleEntries(data, { where, index }, 5000))).length).toBe(5000)
})
