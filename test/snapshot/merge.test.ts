import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ADD, REMOVE, SET } from '../../src/snapshot/entry.ts'
import { RunMemory } from '../../src/snapshot/run-memory.ts'
import { verifyIndex } from '../../src/snapshot/verify.ts'
import { add, build, contents, manifestOf, never, type Op, where } from './build.ts'
import { MemoryStore } from './memory-store.ts'

const index = (kind: 'unique' | 'many') => ({
  kind,
  keyParts: 1,
  seed: '0123456789abcdef',
  shape: 'test',
  reason: null,
})
const word = fc.oneof(fc.constantFrom('a', 'b', 'c', 'aa', 'é', ''), fc.string({ maxLength: 6 }))
const entry = fc.record({ key: word, order: fc.constantFrom('', '1', '2'), value: fc.string({ maxLength: 12 }) })
type E = { key: string; order: string; value: string }

/** Cuts a list into chunks at these places. */
function cut<T>(items: T[], places: number[]): T[][] {
  const at = [...new Set(places.map((place) => place % (items.length + 1)))].sort((a, b) => a - b)
  return [0, ...at].map((from, i) => items.slice(from, at[i] ?? items.length))
}
const model = (entries: E[], many: boolean) =>
  entries.map((e) => JSON.stringify(many ? [e.key, e.order, e.value] : [e.key, e.value])).sort()

test('whatever the order, chunks, partitions and layout of a scan, the content is the same', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(entry, { maxLength: 120 }),
      fc.array(fc.nat(), { maxLength: 4 }),
      fc.boolean(),
      fc.integer({ min: 0, max: 10 }),
      fc.infiniteStream(fc.nat()),
      async (entries, places, many, bits, random) => {
        const store = new MemoryStore()
        const ops = entries.map((e): Op => ({ op: ADD, ...e }))
        const shuffled = ops.map((op) => ({ op, rank: random.next().value as number })).sort((a, b) => a.rank - b.rank)
        const options = { index: index(many ? 'many' : 'unique') }
        const one = await build(store, [ops], options)
        const other = await build(
          store,
          cut(
            shuffled.map((item) => item.op),
            places,
          ),
          {
            ...options,
            bits,
            runsOptions: { memory: new RunMemory(0), durable: places.length > 2 },
          },
        )
        expect(other.index.sums).toEqual(one.index.sums)
        expect([other.index.count, other.index.bytes]).toEqual([one.index.count, one.index.bytes])
        expect((await contents(store, other.index)).sort()).toEqual(model(entries, many))
        const evidence = await verifyIndex(store, where, other.index, { signal: never })
        expect(evidence.problems).toEqual([])
        expect(evidence.sources).toEqual(other.sources)
      },
    ),
    { numRuns: 60 },
  )
})

test('folding changes onto a parent gives what a full build of the result gives, and its counts', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(entry, { maxLength: 80 }),
      fc.array(entry, { maxLength: 40 }),
      fc.array(fc.nat(), { maxLength: 30 }),
      fc.array(fc.nat(), { maxLength: 3 }),
      fc.integer({ min: 0, max: 10 }),
      fc.boolean(),
      async (before, added, removals, places, bits, many) => {
        const store = new MemoryStore()
        const options = { index: index(many ? 'many' : 'unique') }
        const parent = await build(store, [before.map((e): Op => ({ op: ADD, ...e }))], { ...options, bits })
        const left = [...before, ...added]
        const ops: Op[] = added.map((e) => ({ op: ADD, ...e }))
        // Removes what the parent has, and also what was only just added: those cancel.
        for (const n of removals)
          if (left.length > 0) ops.push({ op: REMOVE, ...(left.splice(n % left.length, 1)[0] as E) })
        ops.reverse()
        const next = await build(store, cut(ops, places), { ...options, parent: parent.index })
        const full = await build(store, [left.map((e): Op => ({ op: ADD, ...e }))], options)
        expect(next.index.sums).toEqual(full.index.sums)
        expect([next.index.count, next.index.bytes]).toEqual([full.index.count, full.index.bytes])
        expect((await contents(store, next.index)).sort()).toEqual(model(left, many))
        expect(next.missed.count).toBe(0)
        const { inserted, deleted, updated, unchanged } = next.counts
        expect(before.length + inserted - deleted).toBe(left.length)
        expect(unchanged + inserted + updated).toBe(left.length)
        const evidence = await verifyIndex(store, where, next.index, { signal: never })
        expect(evidence.problems).toEqual([])
        const manifest = await manifestOf(store, 1, 'a'.repeat(32), parent)
        const after = await manifestOf(store, 2, 'b'.repeat(32), next, manifest)
        const named = (list: Array<{ generation: string }>) =>
          list.toSorted((a, b) => (a.generation < b.generation ? -1 : 1))
        expect(named(after.sources)).toEqual(named(evidence.sources))
      },
    ),
    { numRuns: 80 },
  )
})

test('a SET replaces all that its key had, the last one wins, and a deleting SET removes the key', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(entry, { maxLength: 30 }),
      fc.array(fc.record({ key: word, value: fc.option(fc.string({ maxLength: 5 })) }), { maxLength: 40 }),
      fc.array(fc.nat(), { maxLength: 3 }),
      async (before, sets, places) => {
        const store = new MemoryStore()
        const state = new Map(before.map((e) => [e.key, e.value]))
        const parent = await build(store, [[...state].map(([key, value]) => add(key, value))], { bits: 3 })
        const ops = sets.map((set): Op => ({ op: SET, ...set }))
        const next = await build(store, cut(ops, places), { parent: parent.index })
        const wanted = new Map(state)
        for (const { key, value } of sets) value === null ? wanted.delete(key) : wanted.set(key, value)
        expect((await contents(store, next.index)).sort()).toEqual(
          [...wanted].map((pair) => JSON.stringify(pair)).sort(),
        )
        const changed = [...wanted].filter(([key, value]) => state.has(key) && state.get(key) !== value).length
        const inserted = [...wanted.keys()].filter((key) => !state.has(key)).length
        expect(next.counts).toMatchObject({ updated: changed, inserted, deleted: state.size + inserted - wanted.size })
        expect(next.changed).toBe(next.counts.updated + next.counts.inserted + next.counts.deleted > 0)
      },
    ),
    { numRuns: 80 },
  )
})

const rows = (n: number, from = 0) => Array.from({ length: n }, (_, i) => add(`key ${from + i}`, `value ${from + i}`))

test('a refresh writes only the blocks whose entries changed, their pages and the nodes above', async () => {
  const store = new MemoryStore()
  const parent = await build(store, [rows(20_000)], { bits: 11 })
  const before = store.puts
  store.reads = []
  const next = await build(store, [[{ op: REMOVE, key: 'key 7', value: 'value 7' }, add('key 7', 'new')]], {
    parent: parent.index,
  })
  expect(next.blocksWritten).toBe(1)
  // One block; of each tree one page and the root node.
  expect(store.puts - before).toBe(5)
  // Per tree the root and one page, and the block: refs of former objects come from nodes read before.
  expect(store.reads.length).toBe(5)
  expect(next.counts).toMatchObject({ inserted: 0, updated: 1, deleted: 0, unchanged: 19_999 })
  expect(next.index.build).toBe('incremental')
})

test('changes that cancel each other leave the version as it is and write nothing', async () => {
  const store = new MemoryStore()
  const parent = await build(store, [rows(500)])
  const puts = store.puts
  const next = await build(
    store,
    [
      [add('key 3', 'other'), { op: REMOVE, key: 'key 3', value: 'value 3' }],
      [
        { op: REMOVE, key: 'key 3', value: 'other' },
        add('key 3', 'value 3'),
        { op: SET, key: 'key 9', value: 'value 9' },
      ],
    ],
    { parent: parent.index },
  )
  expect(next.changed).toBe(false)
  expect(store.puts).toBe(puts)
  expect(next.index).toEqual({ ...parent.index, build: 'unchanged' })
  expect((await build(store, [], { parent: parent.index })).changed).toBe(false)
})

test('a removal that neither parent nor changes can serve is reported as missed, with its key', async () => {
  const store = new MemoryStore()
  const parent = await build(store, [rows(50)])
  const next = await build(
    store,
    [
      [
        { op: REMOVE, key: 'key 3', value: 'never was' },
        { op: REMOVE, key: 'ghost', value: 'x' },
      ],
    ],
    { parent: parent.index },
  )
  expect(next.missed).toEqual({ count: 2, keys: expect.arrayContaining(['key 3', 'ghost']) })
  expect(next.changed).toBe(false)
})

test('two entries for one key of a unique index are reported as duplicates, in full and incremental builds', async () => {
  const store = new MemoryStore()
  const parent = await build(store, [[...rows(50), add('key 3', 'again')]])
  expect(parent.duplicates).toEqual({ count: 1, keys: ['key 3'] })
  const clean = await build(store, [rows(50)])
  const next = await build(store, [[add('key 4', 'again')]], { parent: clean.index })
  expect(next.duplicates).toEqual({ count: 1, keys: ['key 4'] })
  expect((await verifyIndex(store, where, next.index, { signal: never })).duplicates).toEqual({
    count: 1,
    keys: ['key 4'],
  })
})

test('a bucket that grows beyond the block limit is refused, naming the block and the hash of a key', async () => {
  const store = new MemoryStore()
  const values = Array.from({ length: 40 }, (_, i) => add('same', 'x'.repeat(100), String(i)))
  await expect(build(store, [values], { index: index('many'), blockBytesMax: 2000 })).rejects.toMatchObject({
    code: 'BLOCK_TOO_LARGE',
    details: { block: 1, limit: 2000, keyHash: expect.stringMatching(/^[0-9a-f]{16}$/) },
  })
})

test('a row that was written over and over takes the room of what it is in the end', async () => {
  const store = new MemoryStore()
  const first = await build(store, [[add('hot', 'v0')]], { bits: 0 })
  const ops = Array.from({ length: 500 }, (_, n) => [
    { op: REMOVE, key: 'hot', value: `v${n}` } as const,
    add('hot', `v${n + 1}`),
  ]).flat()
  const next = await build(store, [ops], { parent: first.index, blockBytesMax: 200 })
  expect(await contents(store, next.index)).toEqual(
    await contents(store, (await build(store, [[add('hot', 'v500')]], { bits: 0 })).index),
  )
  expect(next.counts).toMatchObject({ inserted: 0, updated: 1, deleted: 0 })
})

test('an index without rows, and one that loses all its rows, are whole versions', async () => {
  const store = new MemoryStore()
  const empty = await build(store, [])
  expect(empty.index).toMatchObject({ count: 0, bits: 0, sums: ['0'.repeat(16), '0'.repeat(16)] })
  const full = await build(store, [rows(100)])
  const gone = await build(store, [rows(100).map((row) => ({ ...row, op: REMOVE }))], { parent: full.index })
  expect(gone.index).toMatchObject({ count: 0, bytes: 0, sums: empty.index.sums })
  expect(await contents(store, gone.index)).toEqual([])
  expect((await verifyIndex(store, where, gone.index, { signal: never })).problems).toEqual([])
})

test('a version in several levels of nodes is built, changed and verified', async () => {
  const store = new MemoryStore()
  const parent = await build(store, [rows(3000)], { bits: 18 })
  expect(parent.index.location.depth).toBe(2)
  const next = await build(store, [rows(300, 9000)], { parent: parent.index })
  const evidence = await verifyIndex(store, where, next.index, { signal: never })
  expect(evidence.problems).toEqual([])
  expect(evidence.count).toBe(3300)
})

test('a damaged parent block stops the build that needs it', async () => {
  const store = new MemoryStore()
  const parent = await build(store, [rows(100)], { bits: 0, generation: 'c'.repeat(32) })
  const block = store.objects.get(`${'c'.repeat(32)}/0/0`) as Buffer
  block[20] = (block[20] as number) ^ 1
  await expect(build(store, [[add('new', 'x')]], { parent: parent.index })).rejects.toMatchObject({ code: 'CORRUPT' })
})
