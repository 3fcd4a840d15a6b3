import { describe, expect, it } from 'vitest'
import { BREAK_GLASS_MAX } from '../../schemas/pointer.ts'
import { applyChange, compareEpoch, type PointerChange } from '../../src/core/pointer.ts'
import {
  AT,
  breakGlassFrom,
  canaryFrom,
  changed,
  DATASET,
  epoch,
  flipFrom,
  flipped,
  HOLD,
  outcomeOf,
  rollbackFrom,
  tagOf,
  version,
} from './pointers.ts'

/** Of AT, since 1970. */
const SECONDS = 1_779_098_400

describe('a break-glass rollback', () => {
  const at2 = flipped(1, 2)
  const at1 = changed(at2, breakGlassFrom(at2, 1))

  it('moves the pointer, holds, quarantines and writes its history entry in one step, and raises only the second part of the epoch', () => {
    expect(at1).toMatchObject({
      active: version(1),
      epoch: epoch(2, SECONDS),
      hold: { ...HOLD, by: 'break-glass:ann' },
      quarantined: [tagOf(2)],
      flips: [{ flipId: 'glass-2-1', tag: tagOf(1) }, ...at2.flips],
      breakGlass: [
        {
          flipId: 'glass-2-1',
          epoch: epoch(2, SECONDS),
          from: tagOf(2),
          to: tagOf(1),
          by: 'ann',
          reason: 'prices are wrong',
          at: AT,
          rebound: false,
        },
      ],
    })
  })

  const cases: Array<[title: string, pointer: typeof at2, change: PointerChange, expected: string]> = [
    ['works while on hold', { ...at2, hold: HOLD }, breakGlassFrom(at2, 1), 'applied'],
    ['made twice is already there', at1, breakGlassFrom(at2, 1), 'already'],
    ['that was overtaken by sixteen flips is already there', { ...at1, flips: [] }, breakGlassFrom(at2, 1), 'already'],
    ['after another one is superseded', at1, breakGlassFrom(at2, 1, { flipId: 'late', at: AT }), 'SUPERSEDED'],
    [
      'after a flip of the registry is superseded, however high its count',
      flipped(1, 2, 3),
      breakGlassFrom(at2, 1, { flipId: 'late' }),
      'SUPERSEDED',
    ],
    [
      'that expects another version conflicts',
      at2,
      breakGlassFrom(at2, 1, { expected: { tag: tagOf(3), epoch: at2.epoch } }),
      'CONFLICT',
    ],
    ['to a retired version is refused', { ...at2, retired: [tagOf(1)] }, breakGlassFrom(at2, 1), 'VERSION_RETIRED'],
    [
      'to a quarantined version is refused',
      { ...at2, quarantined: [tagOf(1)] },
      breakGlassFrom(at2, 1),
      'VERSION_QUARANTINED',
    ],
    ['to the version it leaves is refused', at2, breakGlassFrom(at2, 2), 'VERSION_QUARANTINED'],
    ['keeps a flip of the registry out', { ...at1, hold: null }, flipFrom(at1, 3), 'UNABSORBED'],
    ['keeps a rollback of the registry out', at1, rollbackFrom(at1, 3), 'UNABSORBED'],
    ['keeps a canary of the registry out', { ...at1, hold: null }, canaryFrom(at1, 3), 'UNABSORBED'],
    ['lets a second one through', at1, breakGlassFrom(at1, 3), 'applied'],
  ]
  it.each(cases)('%s', (_title, pointer, change, expected) => expect(outcomeOf(pointer, change)).toBe(expected))

  it('lets the flips of the registry through when it has absorbed them all', () => {
    const twice = changed(at1, breakGlassFrom(at1, 3))
    expect(twice.breakGlass.map((entry) => entry.flipId)).toEqual(['glass-2-1779098401', 'glass-2-1'])
    const half = changed(twice, { kind: 'absorb', flipIds: ['glass-2-1'] })
    expect(outcomeOf(half, rollbackFrom(half, 4))).toBe('UNABSORBED')
    const whole = changed(half, { kind: 'absorb', flipIds: ['glass-2-1', 'glass-2-1779098401'] })
    expect(whole).toEqual({ ...twice, breakGlass: [] })
    expect(outcomeOf(whole, { kind: 'absorb', flipIds: ['glass-2-1779098401'] })).toBe('already')
    expect(outcomeOf(whole, rollbackFrom(whole, 4))).toBe('applied')
  })

  it('never has the epoch of another one that was undone, though it counts from the same pointer', () => {
    const seen = changed(at2, breakGlassFrom(at2, 1))
    const again = changed(at2, breakGlassFrom(at2, 3, { flipId: 'again', at: '2026-05-18T10:00:01Z', rebound: true }))
    expect(compareEpoch(again.epoch, seen.epoch)).toBeGreaterThan(0)
    expect(again.epoch.registry).toBe(2)
  })

  it('in the same second, or by a clock that stands far back, raises the count all the same', () => {
    const next = changed(at1, breakGlassFrom(at1, 3))
    expect(next.epoch).toEqual(epoch(2, SECONDS + 1))
    expect(changed(next, breakGlassFrom(next, 4, { at: '1999-01-01T00:00:00Z' })).epoch).toEqual(epoch(2, SECONDS + 2))
  })

  it('is refused when the pointer can hold no more entries, and says what to do', () => {
    let now = flipped(1, 2)
    for (let n = 0; n < BREAK_GLASS_MAX; n++) now = changed(now, breakGlassFrom(now, n + 3))
    expect(applyChange(now, breakGlassFrom(now, 1), DATASET)).toMatchObject({
      outcome: 'refused',
      code: 'UNABSORBED',
      message: expect.stringContaining('Bring PostgreSQL back'),
    })
  })
})
