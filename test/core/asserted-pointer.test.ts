import { describe, expect, it } from 'vitest'
import type { Pointer } from '../../schemas/pointer.ts'
import { assertedPointer, isBehind } from '../../src/core/asserted-pointer.ts'
import { emptyPointer } from '../../src/core/pointer.ts'

const ref = (n: number) => ({
  tag: `v20260518-0${n}`,
  ordinal: n,
  digest: `${n}`.repeat(64),
  manifest: `${n}`.repeat(64),
})
const at = (registry: number, version: number | null, more: Partial<Pointer> = {}): Pointer => ({
  ...emptyPointer('shop'),
  active: version === null ? null : ref(version),
  epoch: { registry, breakGlass: 0 },
  ...more,
})

describe('a pointer is behind what the registry confirmed', () => {
  it.each([
    ['where there is none', null, true],
    ['at a lower epoch', at(2, 2), true],
    ['at its epoch with another version', at(3, 2), true],
    ['at its epoch with nothing', at(3, null), true],
    ['not at its epoch with its version', at(3, 3), false],
    ['not at a higher epoch', at(4, 2), false],
    ['not after a break-glass flip', { ...at(3, 2), epoch: { registry: 3, breakGlass: 1 } }, false],
  ])('%s', (_title, stored, behind) => expect(isBehind(stored, at(3, 3))).toBe(behind))
})

describe('the pointer that is asserted', () => {
  const hold = { by: 'a', reason: 'b', at: '2026-05-18T00:00:00Z' }

  it('is what the registry confirmed, where the stored one is behind, and nothing of the stored one', () => {
    const known = at(3, 3, { quarantined: [ref(1).tag] })
    expect(assertedPointer(at(2, 2, { hold, quarantined: [ref(3).tag] }), known)).toBe(known)
    expect(assertedPointer(null, known)).toBe(known)
  })

  it('is the stored one where it is not behind, with every prohibition of both', () => {
    const stored = at(4, 4, {
      previous: ref(3),
      quarantined: [ref(1).tag],
      freshAsOf: { snapshot: '1:1:', at: hold.at },
    })
    const known = at(3, 3, { hold, quarantined: [ref(3).tag], retired: [ref(2).tag] })
    expect(assertedPointer(stored, known)).toEqual({
      ...stored,
      previous: null,
      hold,
      quarantined: [ref(1).tag, ref(3).tag],
      retired: [ref(2).tag],
    })
  })
})
