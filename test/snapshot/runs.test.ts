import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { ADD, REMOVE } from '../../src/snapshot/entry.ts'
import { mergeRuns } from '../../src/snapshot/merge.ts'
import { RunMemory } from '../../src/snapshot/run-memory.ts'
import { openRuns } from '../../src/snapshot/runs.ts'
import { add, build, contents, feed, never, newFolder, type Op, runsOf, runsOptions, SEED, where } from './build.ts'
import { MemoryStore } from './memory-store.ts'

const rows = (n: number, from = 0) =>
  Array.from({ length: n }, (_, i) => add(`key ${from + i}`, `value ${from + i}`.repeat(10)))
const index = { kind: 'unique' as const, keyParts: 1, seed: SEED, shape: 'test', reason: null }

async function merged(runs: Awaited<ReturnType<typeof openRuns>>) {
  const data = new MemoryStore()
  const writer = await data.begin('d'.repeat(32))
  const result = await mergeRuns({ where, runs, data, writer, index, signal: never })
  return { result, contents: (await contents(data, result.index)).sort() }
}

test('a small build writes no file', async () => {
  const runs = await runsOf([rows(1000)])
  expect(readdirSync(runs.options.folder)).toEqual([])
  await runs.remove()
  expect(existsSync(runs.options.folder)).toBe(false)
})

test('a scan that outgrows its memory goes to files and loses nothing', async () => {
  const wanted = await merged(await runsOf([rows(30_000), rows(30_000, 30_000)]))
  const runs = await runsOf([rows(30_000), rows(30_000, 30_000)], { memory: new RunMemory(2 << 20) })
  expect(readdirSync(runs.options.folder)).toHaveLength(2)
  expect(runs.memory.heldBytes).toBeLessThanOrEqual(2 << 20)
  const found = await merged(runs)
  expect(found.result.index.sums).toEqual(wanted.result.index.sums)
  expect(found.contents).toEqual(wanted.contents)
  await runs.remove()
})

test('a row that is updated over and over takes no more room than its first and last image', () => {
  const program = fileURLToPath(new URL('./hot-row-process.ts', import.meta.url))
  const [updates, bytes] = [300_000, 5_000]
  const told = execFileSync(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--max-old-space-size=48', program, `${updates}`, `${bytes}`],
    { encoding: 'utf8' },
  )
  const { bytesInRuns, rssMegabytes, ...found } = JSON.parse(told)
  console.info(`${updates} updates of ${bytes} bytes: ${bytesInRuns} bytes in runs, peak RSS ${rssMegabytes} MB`)
  expect(found).toEqual({
    missed: 0,
    counts: expect.objectContaining({ inserted: 0, updated: 501, deleted: 0 }),
    hot: `${updates} xxxxx`,
  })
  // All that was written is 3 GB.
  expect(bytesInRuns).toBeLessThan(64 << 20)
}, 120_000)

test('changes of one key that do not cancel out are refused beyond their limit, before they are held', async () => {
  const options = { rangeBytesMax: 1 << 20, memory: new RunMemory(0) }
  const runs = await runsOf([Array.from({ length: 30 }, (_, n) => add('hot', `${n}`.repeat(50_000)))], options)
  await expect(merged(runs)).rejects.toMatchObject({ code: 'BLOCK_TOO_LARGE', details: { index: 'products' } })
  await runs.remove()
})

const images = (key: string, n: number) =>
  Array.from({ length: n }, (_, i): Op[] => [
    { op: REMOVE, key, value: `image ${i}` },
    { op: ADD, key, value: `image ${i + 1}` },
  ]).flat()

test('additions that are taken back leave nothing, in whatever way they come, and lose nothing', async () => {
  const base = [add('a', 'image 0'), add('b', 'image 0'), add('c', 'same')]
  const data = new MemoryStore()
  const parent = await build(data, [base])
  const shuffled = <T>(items: T[]) => items.toSorted((x, y) => JSON.stringify(x).localeCompare(JSON.stringify(y)))
  const [a, b] = [images('a', 2000), images('b', 2000)]
  const ways: Record<string, Op[]> = {
    'one after the other': [...a, ...b],
    'in turns': a.flatMap((op, n) => [op, b[n] as Op]),
    'in no order': shuffled([...a, ...b]),
    'added twice, removed once': [add('c', 'same'), add('c', 'same'), { ...add('c', 'same'), op: REMOVE }, ...a, ...b],
  }
  for (const [way, ops] of Object.entries(ways)) {
    const merged = await build(data, [ops], { parent: parent.index, runsOptions: { memory: new RunMemory(0) } })
    const expected = ['a', 'b'].map((key) => JSON.stringify([key, 'image 2000']))
    const more = way.startsWith('added') ? 2 : 1
    expect((await contents(data, merged.index)).sort(), way).toEqual([
      ...expected,
      ...Array.from({ length: more }, () => '["c","same"]'),
    ])
    expect(merged.missed.count, way).toBe(0)
  }
})

test('only the very entry that was added is taken back: a missed change is not hidden by one of the same length', async () => {
  const data = new MemoryStore()
  const parent = await build(data, [[add('a', 'image 0')]])
  const ops: Op[] = [
    { op: REMOVE, key: 'a', value: 'image 0' },
    { op: ADD, key: 'a', value: 'image 1' },
    { op: REMOVE, key: 'a', value: 'image 2' },
    { op: ADD, key: 'a', value: 'image 3' },
  ]
  const { missed } = await build(data, [ops], { parent: parent.index, runsOptions: { memory: new RunMemory(0) } })
  expect(missed).toEqual({ count: 1, keys: ['a'] })
})

test('the runs of one build have one budget', async () => {
  const memory = new RunMemory(8 << 20)
  const all = await Promise.all(Array.from({ length: 20 }, () => openRuns(runsOptions({ memory }))))
  const seen = { held: 0, extents: 0 }
  for (const runs of all) {
    const writer = runs.begin('0')
    for (let part = 0; part < 10; part++) {
      await feed(writer, rows(1500, part * 1500), false)
      seen.held = Math.max(seen.held, memory.heldBytes)
      seen.extents = Math.max(seen.extents, memory.extentBytes)
    }
    await writer.finish()
  }
  // 20 × 1.6 MB were read: some of it is in files, through the buffers of one chunk and those on their way to the disk.
  expect(seen.held).toBeGreaterThan(6 << 20)
  expect(seen.held).toBeLessThanOrEqual(8 << 20)
  expect(seen.extents).toBeGreaterThan(0)
  expect(seen.extents).toBeLessThanOrEqual((64 + 64) * (128 << 10))
  expect(all.map((runs) => readdirSync(runs.options.folder).length > 0)).toContain(true)
  memory.dropSpare()
  expect(memory.extentBytes).toBe(0)
  for (const runs of all) await runs.remove()
  expect(memory.heldBytes).toBe(0)
})

test('a later process goes on after the chunks that were finished, with what was noted of them', async () => {
  const options = runsOptions({ durable: true })
  const first = await openRuns(options)
  for (const [id, from] of [
    ['0', 0],
    ['1', 3000],
  ] as const) {
    const writer = first.begin(id)
    await feed(writer, rows(3000, from), false)
    await writer.finish({ range: [from, from + 3000], snapshot: '1:2:' })
  }
  // Killed while the third is scanned: files without a journal line.
  const third = first.begin('2')
  await feed(third, rows(3000, 6000), false)
  writeFileSync(join(options.folder, '3.run'), 'half a file')

  const second = await openRuns(options)
  expect(second.finished.map(({ id, note, entries }) => ({ id, note, entries }))).toEqual([
    { id: '0', note: { range: [0, 3000], snapshot: '1:2:' }, entries: 3000 },
    { id: '1', note: { range: [3000, 6000], snapshot: '1:2:' }, entries: 3000 },
  ])
  expect(existsSync(join(options.folder, '3.run'))).toBe(false)
  expect(() => second.begin('1')).toThrow(/finished already/)
  const again = second.begin('2')
  await feed(again, rows(3000, 6000), false)
  await again.finish()
  const found = await merged(second)
  const wanted = await merged(await runsOf([rows(9000)]))
  expect(found.result.index.sums).toEqual(wanted.result.index.sums)
  await second.remove()
})

test('a torn or damaged last journal line counts as not written, and the journal goes on cleanly after it', async () => {
  const options = runsOptions({ durable: true })
  const journal = join(options.folder, 'journal')
  const first = await openRuns(options)
  for (const id of ['0', '1']) {
    const writer = first.begin(id)
    await feed(writer, rows(100, Number(id) * 100), false)
    await writer.finish({ naïve: 'é' })
  }
  await first.close()
  const whole = readFileSync(journal)
  truncateSync(journal, whole.length - 20)
  const second = await openRuns(options)
  expect(second.finished.map((chunk) => chunk.id)).toEqual(['0'])
  const writer = second.begin('1')
  await feed(writer, rows(100, 100), false)
  await writer.finish()
  await second.close()
  appendFileSync(journal, '0123456789abcdef {"id":"forged"}\n')
  const third = await openRuns(options)
  expect(third.finished.map((chunk) => chunk.id)).toEqual(['0', '1'])
  expect((await merged(third)).result.index.count).toBe(200)
  await third.remove()
})

test('runs made for another seed or kind are not used', async () => {
  const options = runsOptions({ durable: true })
  const first = await openRuns(options)
  const writer = first.begin('0')
  await feed(writer, rows(10), false)
  await writer.finish()
  await first.close()
  expect((await openRuns({ ...options, seed: 'f'.repeat(16) })).finished).toEqual([])
  expect(readdirSync(options.folder)).toEqual(['journal'])
})

test('a run file that is damaged on disk stops the merge and names the file', async () => {
  const runs = await runsOf([rows(1000)], { durable: true })
  const path = join(runs.options.folder, '1.run')
  const bytes = readFileSync(path)
  bytes[500] = (bytes[500] as number) ^ 1
  writeFileSync(path, bytes)
  await expect(merged(runs)).rejects.toThrow(/1\.run is damaged/)
  await runs.remove()
})

test('after a damaged run file the same build can be tried again: nothing of it is taken for finished', async () => {
  const runs = await runsOf([rows(1000)], { durable: true })
  truncateSync(join(runs.options.folder, '1.run'), 10)
  await expect(merged(runs)).rejects.toMatchObject({ code: 'RUNS_DAMAGED', retryable: true })
  await runs.close()
  const again = await openRuns(runs.options)
  expect(again.finished).toEqual([])
  await again.remove()
})

test('a chunk that was dropped is begun again, also by a later process', async () => {
  const options = runsOptions({ durable: true })
  const first = await openRuns(options)
  for (const id of ['0', '1']) {
    const writer = first.begin(id)
    await feed(writer, rows(100, Number(id) * 100), false)
    await writer.finish()
  }
  await first.drop(new Set(['0']))
  expect(first.finished.map((chunk) => chunk.id)).toEqual(['1'])
  await first.close()
  const second = await openRuns(options)
  expect(second.finished.map((chunk) => chunk.id)).toEqual(['1'])
  const writer = second.begin('0')
  await feed(writer, rows(50), false)
  await writer.finish()
  expect((await merged(second)).result.index.count).toBe(150)
  await second.remove()
})

test('an abandoned chunk leaves nothing', async () => {
  const runs = await openRuns(runsOptions({ memory: new RunMemory(0) }))
  const writer = runs.begin('0')
  await feed(writer, rows(5000), false)
  await writer.abandon()
  expect(readdirSync(runs.options.folder)).toEqual([])
  expect(runs.entries).toBe(0)
  await runs.remove()
})

test('a key or value at its limit is taken, one byte more is refused, naming index, row and lengths', async () => {
  const store = new MemoryStore()
  const limits = { keyBytesMax: 8, valueBytesMax: 16 }
  const ok = await build(store, [[add('k'.repeat(8), 'v'.repeat(16))]], { runsOptions: limits })
  expect(ok.index.count).toBe(1)
  await expect(build(store, [[add('k'.repeat(9), 'v')]], { runsOptions: limits })).rejects.toMatchObject({
    code: 'KEY_TOO_LONG',
    message: expect.stringMatching(/key "kkkkkkkkk" in index products of shop .* at most 8 bytes, found 9/),
  })
  await expect(build(store, [[add('row 7', 'v'.repeat(17))]], { runsOptions: limits })).rejects.toMatchObject({
    code: 'VALUE_TOO_LONG',
    details: { index: 'products', key: '"row 7"', limit: 16, found: 17 },
  })
  await expect(
    build(store, [[add('k', 'v', 'o'.repeat(17))]], { index: { ...index, kind: 'many' }, runsOptions: limits }),
  ).rejects.toMatchObject({ code: 'VALUE_TOO_LONG', message: expect.stringMatching(/order of the row/) })
  // A long key is personal data as likely as not: its hash is named.
  await expect(build(store, [[add('k'.repeat(600), 'v')]])).rejects.toThrow(/key \(SHA-256\) [0-9a-f]{16} in/)
})

test('a full temporary folder is STORE_FULL and names the folder', async (context) => {
  const folder = newFolder()
  const mount = join(folder, 'small')
  mkdirSync(mount)
  try {
    execFileSync('/bin/mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', mount], { stdio: 'ignore' })
  } catch {
    return context.skip('mounting a small file system needs root')
  }
  try {
    const options = { memory: new RunMemory(0), folder: join(mount, 'runs') }
    await expect(runsOf([rows(20_000)], options)).rejects.toMatchObject({
      code: 'STORE_FULL',
      details: { folder: join(mount, 'runs') },
    })
  } finally {
    execFileSync('/bin/umount', ['-l', mount])
  }
})
