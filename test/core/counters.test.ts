import { expect, test } from 'vitest'
import { COUNTED_BAD_MAX, COUNTED_READS_MAX, capped } from '../../src/core/counters.ts'
import { report } from '../stores/reports.ts'

test('a report below the limits counts as it is', () => {
  const quiet = report({ reads: 9000, misses: 100, errors: 1000, bad: 3 })
  expect(capped(quiet)).toEqual(quiet)
})

test('a busy reader weighs no more than the limit, and what part of its reads missed or failed stays', () => {
  const latencyMs = report({}).latencyMs.map((_, at) => (at === 3 ? 40_000 : 0))
  const busy = capped(report({ reads: 900_000, misses: 90_000, errors: 100_000, bad: 5000, latencyMs }))
  expect(busy).toMatchObject({ reads: 9000, misses: 900, errors: 1000, bad: COUNTED_BAD_MAX })
  expect(busy.latencyMs[3]).toBe(400)
  expect(capped(busy)).toEqual(busy)
})

test('what a reader makes up weighs no more either', () => {
  const errors = capped(report({ reads: 0, misses: 5, errors: 1e9 }))
  expect(errors).toMatchObject({ reads: 0, misses: 0, errors: COUNTED_READS_MAX })
  const slow = capped(report({ reads: 1, latencyMs: report({}).latencyMs.map(() => 1e9) }))
  expect(slow.latencyMs.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(COUNTED_READS_MAX)
})
