import { expect, it } from 'vitest'
import { changeText, definitionChanges } from '../../src/core/definition-changes.ts'

it('tells what was added, removed and changed, by path; nothing of equal definitions', () => {
  const before = {
    keep: 5,
    gates: { drift: { sample: 1000, mode: 'sample' } },
    stores: ['a'],
    schedule: { everyMs: 1 },
  }
  const after = {
    gates: { drift: { mode: 'sample', sample: 5000 } },
    keep: 5,
    stores: ['a', 'b'],
    roles: { admin: ['ana'] },
  }
  expect(definitionChanges(before, after).map(changeText)).toEqual([
    'gates.drift.sample: 1000 → 5000',
    'roles: nothing → {"admin":["ana"]}',
    'schedule: {"everyMs":1} → nothing',
    'stores: ["a"] → ["a","b"]',
  ])
  expect(definitionChanges({ a: [{ b: 1, c: 2 }] }, { a: [{ c: 2, b: 1 }] })).toEqual([])
})
