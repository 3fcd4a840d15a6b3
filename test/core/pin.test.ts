import { describe, expect, it } from 'vitest'
import type { PointerChange } from '../../src/core/pointer.ts'
import {
  breakGlassFrom,
  changed,
  flipFrom,
  flipped,
  HOLD,
  outcomeOf,
  rollbackFrom,
  tagOf,
  version,
} from './pointers.ts'

const UNTIL = '2026-05-19T10:00:00Z'
const pin = { version: version(2), until: UNTIL, by: 'ann', reason: 'an audit' }
const at3 = flipped(1, 2, 3)
const pinned = changed(at3, { kind: 'pin', pin })

describe('the pin of an operator', () => {
  const cases: Array<[title: string, pointer: typeof at3, change: PointerChange, expected: string]> = [
    ['is set', at3, { kind: 'pin', pin }, 'applied'],
    ['set twice is already there', pinned, { kind: 'pin', pin }, 'already'],
    ['gives way to a later one', pinned, { kind: 'pin', pin: { ...pin, until: '2026-05-20T10:00:00Z' } }, 'applied'],
    ['works on hold', { ...at3, hold: HOLD }, { kind: 'pin', pin }, 'applied'],
    ['to a retired version is refused', { ...at3, retired: [tagOf(2)] }, { kind: 'pin', pin }, 'VERSION_RETIRED'],
    [
      'to a quarantined version is refused',
      { ...at3, quarantined: [tagOf(2)] },
      { kind: 'pin', pin },
      'VERSION_QUARANTINED',
    ],
    ['is lifted', pinned, { kind: 'unpin', tag: tagOf(2), until: UNTIL }, 'applied'],
    ['lifted twice', at3, { kind: 'unpin', tag: tagOf(2), until: UNTIL }, 'already'],
    [
      'set anew is not lifted with the one that expired',
      pinned,
      { kind: 'unpin', tag: tagOf(2), until: '2026-05-18T10:00:00Z' },
      'already',
    ],
    ['to another version is not lifted either', pinned, { kind: 'unpin', tag: tagOf(3), until: UNTIL }, 'already'],
    ['lets flips go on beneath', pinned, flipFrom(pinned, 4), 'applied'],
  ]
  it.each(cases)('%s', (_title, pointer, change, expected) => expect(outcomeOf(pointer, change)).toBe(expected))

  it('keeps its version from being retired, when that is neither active nor a rollback target any more', () => {
    const later = changed(pinned, flipFrom(pinned, 4))
    expect(later).toMatchObject({ pin, active: version(4), previous: version(3) })
    expect(outcomeOf(later, { kind: 'retire', tag: tagOf(2) })).toBe('CONFLICT')
    const lifted = changed(later, { kind: 'unpin', tag: tagOf(2), until: UNTIL })
    expect(outcomeOf(lifted, { kind: 'retire', tag: tagOf(2) })).toBe('applied')
  })

  it.each([
    ['rollback of its version', (): PointerChange => rollbackFrom(onActive, 2)],
    ['break-glass rollback of its version', (): PointerChange => breakGlassFrom(onActive, 2)],
  ])('ends with a %s', (_title, change) => {
    expect(changed(onActive, change()).pin).toBeNull()
  })
  const onActive = changed(at3, { kind: 'pin', pin: { ...pin, version: version(3) } })

  it('ends with a quarantine of its version', () => {
    expect(changed(pinned, { kind: 'quarantine', tag: tagOf(2) }).pin).toBeNull()
  })

  it('outlives a rollback of another version', () => {
    expect(changed(pinned, rollbackFrom(pinned, 1)).pin).toEqual(pin)
  })
})
