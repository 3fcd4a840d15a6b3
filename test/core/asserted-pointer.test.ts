import { describe, expect, it } from 'vitest'
import type { Pointer } from '../../schemas/pointer.ts'
import { assertedPointer, isBehind, isUnsettled } from '../../src/core/asserted-pointer.ts'
import { emptyPointer } from '../../src/core/pointer.ts'

const ref = (n: number) => ({
  tag: `v20260518-0${n}`,
  ordinal: n,
  digest: `${n}`.repeat(64),
  manifest: `${n}`.repeat(64),
})
/** At an epoch, after flips to all versions up to this one. */
const at = (registry: number, version: number | null, more: Partial<Pointer> = {}): Pointer => ({
  ...emptyPointer('shop'),
  active: version === null ? null : ref(version),
  epoch: { registry, breakGlass: 0 },
  flipId: version === null ? null : `flip-${version}`,
  flips: flipsTo(version ?? 0),
  ...more,
})
const flipsTo = (version: number) =>
  Array.from({ length: version }, (_, n) => ({ flipId: `flip-${version - n}`, tag: ref(version - n).tag }))

describe('a pointer is behind what the registry confirmed', () => {
  it.each([
    ['where there is none', null, true],
    ['at a lower epoch', at(2, 2), true],
    ['at a lower epoch, though it has the flip: a canary was undone', at(2, 3), true],
    ['at its epoch without its flip', at(3, 2), true],
    ['at its epoch with nothing', at(3, null), true],
    ['at a higher epoch without its flip: a fence or a repair raised it', at(4, 2), true],
    ['at a higher epoch with nothing: a fence wrote it anew', at(4, null), true],
    ['not at its epoch with its flip', at(3, 3), false],
    ['not after another flip', at(4, 4), false],
    ['not after a rollback', at(4, 2, { flips: [{ flipId: 'back', tag: ref(2).tag }, ...flipsTo(3)] }), false],
    ['not where it was emptied, because that version is not whole', at(4, null, { flips: flipsTo(3) }), false],
  ])('%s', (_title, stored, behind) => expect(isBehind(stored, at(3, 3))).toBe(behind))
})

describe('the last flip of a pointer is unsettled', () => {
  const glass = { flipId: 'glass', epoch: { registry: 2, breakGlass: 1 }, from: ref(2).tag, to: ref(1).tag }
  const entry = { ...glass, by: 'ann', reason: 'bad', at: '2026-05-18T00:00:00Z', rebound: false }
  it.each([
    ['when the registry has not confirmed it', at(4, 4), true],
    ['when it is, on a pointer that is behind', at(2, 2, { flipId: 'open' }), true],
    ['not when it has', at(2, 2), false],
    [
      'not when it is a break-glass rollback, which is absorbed',
      at(2, 1, { flipId: 'glass', breakGlass: [entry] }),
      false,
    ],
    ['not where none was made', at(0, null), false],
    ['not where there is no pointer', null, false],
  ])('%s', (_title, stored, unsettled) => expect(isUnsettled(stored, at(3, 3))).toBe(unsettled))
})

describe('the pointer that is asserted', () => {
  const hold = { by: 'a', reason: 'b', at: '2026-05-18T00:00:00Z' }

  it('is what the registry confirmed, where the stored one is behind, and nothing of the stored one', () => {
    const known = at(3, 3, { quarantined: [ref(1).tag] })
    expect(assertedPointer(at(2, 2, { hold, quarantined: [ref(3).tag] }), known)).toEqual(known)
    expect(assertedPointer(null, known)).toEqual(known)
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

  it('remembers the flips that the stored one does, when nobody has recorded them yet', () => {
    const open = { flipId: 'open', tag: ref(9).tag }
    expect(assertedPointer(at(2, 2, { flips: [open, ...flipsTo(2)] }), at(3, 3)).flips).toEqual([...flipsTo(3), open])
  })

  it('keeps what belongs to no flip, from wherever it is', () => {
    const ttl = { budgetMs: 1000, beyond: 'mark' } as const
    const pin = { version: ref(2), until: hold.at, by: 'a', reason: 'b' }
    const anchor = { seq: 4, hash: '4'.repeat(64) }
    const declared = { ttl, pin, anchor }
    expect(assertedPointer(at(2, 2, declared), at(3, 3))).toMatchObject({ active: ref(3), ...declared })
    expect(assertedPointer(at(4, 4), at(3, 3, declared))).toMatchObject({ active: ref(4), ...declared })
    const contradicted = [anchor, { ...anchor, seq: 3 }]
    const both = assertedPointer(
      at(2, 2, { contradicted: contradicted.slice(1) }),
      at(3, 3, { contradicted: [anchor] }),
    )
    expect(both.contradicted).toEqual(contradicted)
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
    expect(assertedPointer(at(4, 3, { candidate }), at(3, 3, { hold })).candidate).toBeNull()
  })

  it('has no canary whose end was undone', () => {
    const candidate = { version: ref(5), share: 0.1, salt: 's', canaryId: 'c', since: hold.at }
    const hasEnded = (canaryId: string) => canaryId === 'c'
    expect(assertedPointer(at(4, 3, { candidate }), at(4, 3), { hasEnded })).toMatchObject({ candidate: null })
  })

  it('has no hold and no pin whose lifting was undone', () => {
    const pin = { version: ref(2), until: hold.at, by: 'a', reason: 'b' }
    const both = { hold: true, pin: true }
    for (const stored of [at(4, 3, { hold, pin }), at(2, 2, { hold, pin })]) {
      expect(assertedPointer(stored, at(3, 3), { lifted: both })).toMatchObject({ hold: null, pin: null })
      expect(assertedPointer(stored, at(3, 3, { hold, pin }), { lifted: both })).toMatchObject({ hold, pin })
      expect(assertedPointer(stored, at(3, 3), { lifted: { hold: true, pin: false } })).toMatchObject({ pin })
    }
  })

  it('is above every flip from before: what was undone besides cannot be told', () => {
    const issued = { registry: 6, breakGlass: 0 }
    expect(assertedPointer(at(4, 4), at(3, 3), { issued }).epoch).toEqual(issued)
    expect(assertedPointer(at(2, 2), at(3, 3), { issued }).epoch).toEqual(issued)
    expect(assertedPointer(null, at(3, 3), { issued }).epoch).toEqual(issued)
    expect(assertedPointer(at(7, 4), at(3, 3), { issued }).epoch).toEqual(at(7, 4).epoch)
  })

  it('never goes below the epoch of a fence that wrote the pointer anew', () => {
    expect(assertedPointer(at(5, null), at(3, 3))).toEqual(at(5, 3))
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
    flips: [{ flipId: 'glass-2', tag: ref(1).tag }, ...flipsTo(2)],
  }
  const known = at(3, 3)

  it('stays made where the pointer was behind, above the flip that was undone', () => {
    const epoch = { registry: 3, breakGlass: 2 }
    expect(assertedPointer(stored, known)).toEqual({
      ...stored,
      epoch,
      flips: [...stored.flips, { flipId: 'flip-3', tag: ref(3).tag }],
      breakGlass: [{ ...entry(2, 2, 1), epoch }],
    })
  })

  it('is not made again once the registry has it', () => {
    const absorbed = { ...known, flips: [...known.flips, { flipId: 'glass-2', tag: ref(1).tag }] }
    expect(assertedPointer(stored, absorbed)).toEqual(absorbed)
  })

  it('leaves its hold, its quarantine and its entry where it went to a version that the registry has quarantined', () => {
    const forbidding = { ...known, previous: ref(2), quarantined: [ref(1).tag] }
    expect(assertedPointer(stored, forbidding)).toEqual({
      ...known,
      previous: null,
      flips: [...known.flips, { flipId: 'glass-2', tag: ref(1).tag }],
      hold,
      quarantined: [ref(1).tag, ref(2).tag],
      breakGlass: stored.breakGlass,
    })
  })

  it('never has its version taken for retired', () => {
    const retiring = { ...known, retired: [ref(1).tag, ref(9).tag] }
    expect(assertedPointer(stored, retiring)).toMatchObject({ active: ref(1), retired: [ref(9).tag] })
    const ahead = { ...stored, epoch: { registry: 3, breakGlass: 1 }, flips: [...stored.flips, ...flipsTo(3)] }
    expect(assertedPointer(ahead, retiring)).toMatchObject({ active: ref(1), retired: [ref(9).tag] })
  })
})
