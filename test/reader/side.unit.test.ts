import { expect, test } from 'vitest'
import { isOnCandidateSide } from '../../src/reader/side.ts'

const keys = Array.from({ length: 20_000 }, (_, n) => `user-${n}`)
const onSide = (share: number, salt = 'salt') => keys.filter((key) => isOnCandidateSide(key, { salt, share }))

test('a share of all keys is on the candidate’s side', () => {
  for (const share of [0.01, 0.1, 0.5, 0.9]) {
    expect(Math.abs(onSide(share).length / keys.length - share)).toBeLessThan(0.015)
  }
})

test('a key stays on its side, and a larger share only brings more over to the candidate', () => {
  const small = onSide(0.1)
  expect(onSide(0.1)).toEqual(small)
  const larger = new Set(onSide(0.3))
  expect(small.every((key) => larger.has(key))).toBe(true)
})

test('another canary’s salt chooses others', () => {
  const other = new Set(onSide(0.1, 'other salt'))
  const both = onSide(0.1).filter((key) => other.has(key))
  expect(both.length / keys.length).toBeLessThan(0.02)
})
