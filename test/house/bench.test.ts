import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { median, percentile } from '../../bench/report.ts'
import { root } from './quoted-commands.ts'

/** What is measured is no test's to assert; that it is measured as the page says, and told, is. */
const page = await readFile(join(root, 'docs/benchmarks.md'), 'utf8')

test('a percentile leaves out no slow answer, and a median is of the middle', () => {
  const ms = Array.from({ length: 100 }, (_none, n) => 100 - n)
  expect(percentile(ms, 0.99)).toBe(100)
  expect(percentile(ms, 0.5)).toBe(51)
  expect(percentile([7], 0.99)).toBe(7)
  expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5])
})

test('what the bench measures is told with its aim, and what came of it', async () => {
  const run = await readFile(join(root, 'bench/run.ts'), 'utf8')
  const [, groups = ''] = /const GROUPS = \[(.*?)\] as const/s.exec(run) ?? []
  const named = [...groups.matchAll(/'(\w+)'/g)].map(([, group]) => group)
  expect(named).toEqual(expect.arrayContaining(['rollback', 'drill', 'freshness']))
  for (const group of named) expect(page, group).toContain(`\`${group}\``)
  expect(page).toMatch(/\| rollback, to the last of 8 readers \| \d+ ms \|.*\| < 500 ms \| met/)
  expect(page).toMatch(/\| drill away: to the pointer, to the last reader \| \d+, \d+ ms \| < 500 ms \| met/)
  expect(page).toMatch(/\| drill back: to the pointer, to the last reader \| \d+, \d+ ms \| < 500 ms \| met/)
  expect(page).toMatch(
    /update a row a transaction at 1,000 a second; from the writer's clock\nafter COMMIT to a reader/,
  )
  expect(page).toMatch(/\| from COMMIT to a reader, p50, p99 \|.* s \| < 1, < 3 s \| met/)
})
