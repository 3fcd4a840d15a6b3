import { describe, expect, it } from 'vitest'
import { mayBecome, NEXT_STATES, VERSION_STATES } from '../../src/core/version-state.ts'

describe('the states of a version', () => {
  it('are all in the table, and nothing else is', () => {
    expect(Object.keys(NEXT_STATES).sort()).toEqual([...VERSION_STATES].sort())
    for (const next of Object.values(NEXT_STATES)) expect(VERSION_STATES).toEqual(expect.arrayContaining([...next]))
  })

  it('all lead to swept, and from swept to nothing', () => {
    for (const state of VERSION_STATES) expect(reachable(state)).toContain('swept')
    expect(NEXT_STATES.swept).toEqual([])
  })

  it.each([
    ['building', 'active'],
    ['held', 'active'],
    ['rejected', 'active'],
    ['rejected', 'candidate'],
    ['quarantined', 'active'],
    ['retired', 'active'],
    ['swept', 'active'],
    ['active', 'retired'],
    ['active', 'swept'],
    ['retained', 'swept'],
    ['retired', 'retained'],
  ] as const)('do not go from %s to %s', (from, to) => {
    expect(mayBecome(from, to)).toBe(false)
  })

  it('lead to active only from what passed its gates or was active before', () => {
    const before = VERSION_STATES.filter((state) => mayBecome(state, 'active'))
    expect(before).toEqual(['sealed', 'candidate', 'retained'])
  })

  it('lead to swept only from retired', () => {
    expect(VERSION_STATES.filter((state) => mayBecome(state, 'swept'))).toEqual(['retired'])
  })
})

function reachable(from: (typeof VERSION_STATES)[number]): Set<string> {
  const found = new Set([from])
  for (const state of found) for (const next of NEXT_STATES[state]) found.add(next)
  return found
}
