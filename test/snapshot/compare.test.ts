import { expect, test } from 'vitest'
import { compareRuns } from '../../src/snapshot/compare.ts'
import { REMOVE } from '../../src/snapshot/entry.ts'
import { RunMemory } from '../../src/snapshot/run-memory.ts'
import { add, build, never, type Op, runsOf, where } from './build.ts'
import { MemoryStore } from './memory-store.ts'

const rows = (n: number) => Array.from({ length: n }, (_, i) => add(`key ${i}`, `value ${i} `.repeat(40)))

/** What compares the ops with a version that was built of `built`. */
async function compared(built: Op[], ops: Op[], kind: 'unique' | 'many' = 'unique') {
  const data = new MemoryStore()
  const { index } = await build(data, [built], {
    index: { kind, keyParts: 1, seed: '0123456789abcdef', shape: 'test', reason: null },
  })
  const runs = await runsOf([ops], { kind, memory: new RunMemory(1 << 20), expectedBytes: index.bytes })
  try {
    return await compareRuns(runs, { data, where, index }, never)
  } finally {
    await runs.remove()
  }
}

test('the same entries are equal, in whatever order and number of hash ranges they are read', async () => {
  const built = rows(70_000)
  // More than one range of 24 MB.
  expect(await compared(built, built.toReversed())).toEqual({ keys: 70_000, different: { count: 0, keys: [] } })
})

test('a key that either side lacks, has otherwise or has more often differs, each once', async () => {
  const built = rows(1000)
  const changed = built.filter(({ key }) => key !== 'key 1')
  changed.push(add('key 2', 'once more'), add('another key', 'x'), { ...add('key 3', 'never there'), op: REMOVE })
  const { keys, different } = await compared(built, changed)
  expect(keys).toBe(1001)
  expect(different.count).toBe(4)
  expect(different.keys.toSorted()).toEqual(['another key', 'key 1', 'key 2', 'key 3'])
})

test('what was added and removed again is no difference', async () => {
  const built = rows(100)
  const passing = add('passing', 'x')
  expect(await compared(built, [passing, ...built, { ...passing, op: REMOVE }])).toMatchObject({
    different: { count: 0 },
  })
})

test('a key of many values differs by order, by value and by how often a value occurs', async () => {
  const built = ['a', 'b', 'c', 'd'].flatMap((key) => [add(key, 'v', '1'), add(key, 'v', '1'), add(key, 'w', '2')])
  const now = built.map((op, n) =>
    n === 0 ? add('a', 'w', '1') : n === 3 ? add('b', 'v', '2') : n === 11 ? add('d', 'v', '1') : op,
  )
  expect(await compared(built, built, 'many')).toEqual({ keys: 4, different: { count: 0, keys: [] } })
  expect((await compared(built, now, 'many')).different.keys.toSorted()).toEqual(['a', 'b', 'd'])
})

test('an empty side has nothing that the other could equal', async () => {
  expect(await compared([], rows(5))).toMatchObject({ keys: 5, different: { count: 5 } })
  expect(await compared(rows(5), [])).toMatchObject({ keys: 5, different: { count: 5 } })
})
