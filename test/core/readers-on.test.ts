import { expect, test } from 'vitest'
import { currentUpTo, isExpired, keptElsewhere, pinInForce, readersOn } from '../../src/core/readers-on.ts'
import { tagOf, version } from '../stores/versions.ts'

const UNTIL = '2026-05-18T10:00:00.000Z'
const end = Date.parse(UNTIL)
const pin = { version: version(1), until: UNTIL, by: 'ann', reason: 'audit' }

test('an operator’s pin goes before the active version until its time, and not a moment longer', () => {
  expect(readersOn({ active: version(2), pin }, end - 1)).toEqual(version(1))
  expect(readersOn({ active: version(2), pin }, end)).toEqual(version(2))
  expect(readersOn({ active: version(2), pin: null }, 0)).toEqual(version(2))
  expect(readersOn({ active: null, pin: null }, 0)).toBeNull()
  const told = `readers stay on ${version(1).tag}, where ${pin.by} pinned them until ${pin.until}`
  expect(keptElsewhere({ pin }, version(2).tag, end - 1)).toBe(told)
  expect(keptElsewhere({ pin }, version(2).tag, end)).toBeNull()
  expect(keptElsewhere({ pin }, version(1).tag, end - 1)).toBeNull()
  expect([pinInForce({ pin }, end - 1), pinInForce({ pin }, end)]).toEqual([pin, null])
})

test('a version is current up to its watermark, the active one up to when it was last found so', () => {
  const freshAsOf = { snapshot: '1:5:', at: '2026-05-18T12:00:00.000Z' }
  const built = { tag: tagOf(1), watermark: { at: '2026-05-18T11:00:00.000Z' } }
  const at = (pointer: Parameters<typeof currentUpTo>[0]) => new Date(currentUpTo(pointer, built)).toISOString()
  expect(at({ active: version(1), freshAsOf })).toBe('2026-05-18T12:00:00.000Z')
  expect(at({ active: version(2), freshAsOf })).toBe('2026-05-18T11:00:00.000Z')
  expect(at({ active: version(1), freshAsOf: null })).toBe('2026-05-18T11:00:00.000Z')
  expect(at({ active: version(1), freshAsOf: { ...freshAsOf, at: '2026-05-18T10:00:00.000Z' } })).toBe(
    '2026-05-18T11:00:00.000Z',
  )
})

test('a version expires when that is longer ago than its budget, and never without one', () => {
  const ttl = { budgetMs: 1000, beyond: 'mark' } as const
  expect([isExpired(ttl, 5000, 6000), isExpired(ttl, 5000, 6001), isExpired(null, 0, 1e15)]).toEqual([
    false,
    true,
    false,
  ])
})
