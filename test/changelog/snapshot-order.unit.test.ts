import { expect, test } from 'vitest'
import { earliest, isWithin } from '../../src/changelog/snapshot-order.ts'

test('a snapshot is within another when all that it sees is seen there', () => {
  expect(isWithin('10:20:10,12', '10:20:10,12')).toBe(true)
  expect(isWithin('10:20:10,12', '12:20:12')).toBe(true)
  expect(isWithin('12:20:12', '10:20:10,12')).toBe(false)
  // What began after the first is open in the second: neither sees it.
  expect(isWithin('20:20:', '20:25:20,24')).toBe(true)
  expect(isWithin('20:25:20,24', '20:20:')).toBe(false)
  // Each sees one that the other does not.
  expect(isWithin('10:20:10', '10:20:12')).toBe(false)
  expect(isWithin('10:20:12', '10:20:10')).toBe(false)
  // Numbers, not text.
  expect(isWithin('9:9:', '10:10:')).toBe(true)
})

test('the earliest of several snapshots is found wherever it stands, and none where they do not follow one another', () => {
  expect(earliest(['12:20:12', '10:20:10,12', '25:25:'])).toBe(1)
  expect(earliest(['10:20:10', '10:20:12'])).toBe(-1)
  expect(earliest([])).toBe(-1)
})
