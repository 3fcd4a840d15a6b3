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
    expect(assertedPointer(at(2, 2, { hold, quarantined: [ref(3).tag] }), known)).toEqual(known)
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

  it('keeps what belongs to no flip, from wherever it is', () => {
    const ttl = { budgetMs: 1000, beyond: 'mark' } as const
    const pin = { version: ref(2), until: hold.at, by: 'a', reason: 'b' }
    const anchor = { seq: 4, hash: '4'.repeat(64) }
    const declared = { ttl, pin, anchor }
    expect(assertedPointer(at(2, 2, declared), at(3, 3))).toMatchObject({ active: ref(3), ...declared })
    expect(assertedPointer(at(4, 4), at(3, 3, declared))).toMatchObject({ active: ref(4), ...declared })
    const older = { anchor: { ...anchor, seq: 3 } }
    expect(assertedPointer(at(4, 4, older), at(3, 3, declared)).anchor).toEqual(anchor)
    expect(assertedPointer(at(4, 4, declared), at(3, 3, older)).anchor).toEqual(anchor)
  })

  it('offers no forbidden version as candidate or pin', () => {
    const candidate = { version: ref(2), share: 0.1, salt: 's', canaryId: 'c', since: hold.at }
    const pin = { version: ref(2), until: hold.at, by: 'a', reason: 'b' }
    const known = at(3, 3, { quarantined: [ref(2).tag] })
    expect(assertedPointer(at(4, 4, { candidate, pin }), known)).toMatchObject({ candidate: null, pin: null })
    expect(assertedPointer(at(2, 1, { pin }), known)).toMatchObject({ pin: null })
  })

  it('keeps the bake, and a canary that is newer than what the registry confirmed', () => {
    const candidate = { version: ref(5), share: 0.1, salt: 's', canaryId: 'c', since: hold.at }
    const bake = { flipId: 'f', until: hold.at }
    expect(assertedPointer(at(4, 3, { candidate, bake }), at(3, 3))).toMatchObject({ candidate, bake })
    expect(assertedPointer(at(3, 3), at(4, 3, { candidate }))).toMatchObject({ candidate })
  })

  it('has no canary whose end was undone', () => {
    const candidate = { version: ref(5), share: 0.1, salt: 's', canaryId: 'c', since: hold.at }
    expect(assertedPointer(at(4, 3, { candidate }), at(4, 3))).toMatchObject({ candidate: null })
  })
})

describe('a break-glass rollback that the registry has not absorbed', () => {
  const hold = { by: 'ann', reason: 'bad', at: '2026-05-18T00:00:00Z' }
  const entry = (registry: number, from: number, to: number) => ({
    flipId: `glass-${registry}`,
    epoch: { registry, breakGlass: 1 },
    from: ref(from).tag,
    to: ref(to).tag,
    by: 'ann',
    reason: 'bad',
    at: hold.at,
    rebound: true,
  })
  /** From version 2 back to 1, in a store that had lost the flip to 3. */
  const stored = {
    ...at(2, 1, { hold, quarantined: [ref(2).tag], breakGlass: [entry(2, 2, 1)] }),
    epoch: { registry: 2, breakGlass: 1 },
    flips: [
      { flipId: 'glass-2', tag: ref(1).tag },
      { flipId: 'second', tag: ref(2).tag },
    ],
  }
  const known = at(3, 3, {
    flips: [
      { flipId: 'third', tag: ref(3).tag },
      { flipId: 'second', tag: ref(2).tag },
    ],
  })

  it('stays made where the pointer was behind, above the flip that was undone', () => {
    const epoch = { registry: 3, breakGlass: 2 }
    expect(assertedPointer(stored, known)).toEqual({
      ...stored,
      epoch,
      flips: [...stored.flips, { flipId: 'third', tag: ref(3).tag }],
      breakGlass: [{ ...entry(2, 2, 1), epoch }],
    })
  })

  it('is not made again once the registry has it', () => {
    const absorbed = { ...known, flips: [...known.flips, { flipId: 'glass-2', tag: ref(1).tag }] }
    expect(assertedPointer(stored, absorbed)).toEqual(absorbed)
    expect(assertedPointer(stored, known, (flipId) => flipId === 'glass-2')).toEqual(known)
  })

  it('leaves its hold, its quarantine and its entry where it went to a version that the registry has quarantined', () => {
    const forbidding = { ...known, previous: ref(2), quarantined: [ref(1).tag] }
    expect(assertedPointer(stored, forbidding)).toEqual({
      ...known,
      previous: null,
      hold,
      quarantined: [ref(1).tag, ref(2).tag],
      breakGlass: stored.breakGlass,
    })
  })

  it('never has its version taken for retired', () => {
    const retiring = { ...known, retired: [ref(1).tag, ref(9).tag] }
    expect(assertedPointer(stored, retiring)).toMatchObject({ active: ref(1), retired: [ref(9).tag] })
    const ahead = { ...stored, epoch: { registry: 3, breakGlass: 1 } }
    expect(assertedPointer(ahead, retiring)).toMatchObject({ active: ref(1), retired: [ref(9).tag] })
  })
})
