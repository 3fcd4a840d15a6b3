import { describe, expect, it } from 'vitest'
import { candidateSchema } from '../../schemas/pointer.ts'
import { emptyPointer, type PointerChange } from '../../src/core/pointer.ts'
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

const at2 = flipped(1, 2)
const running = changed(at2, canaryFrom(at2, 3))
const { canaryId } = canaryFrom(at2, 3)

describe('a canary', () => {
  it('names the candidate with its share and salt, raises the epoch and moves nothing else', () => {
    expect(running).toEqual({
      ...at2,
      epoch: epoch(3),
      candidate: { version: version(3), share: 0.1, salt: 'salt', canaryId, since: AT },
    })
  })

  const cases: Array<[title: string, pointer: typeof at2 | null, change: PointerChange, expected: string]> = [
    ['begun twice is already there', running, canaryFrom(at2, 3), 'already'],
    [
      'begun again after it ended is superseded',
      changed(running, { kind: 'endCanary', canaryId }),
      canaryFrom(at2, 3),
      'SUPERSEDED',
    ],
    ['after a flip is superseded', flipped(1, 2, 4), canaryFrom(at2, 3), 'SUPERSEDED'],
    ['that expects a state before conflicts', flipped(1, 2, 4), canaryFrom(at2, 3, { epoch: epoch(9) }), 'CONFLICT'],
    ['on hold is refused', { ...at2, hold: HOLD }, canaryFrom(at2, 3), 'ON_HOLD'],
    ['of a retired version is refused', { ...at2, retired: [tagOf(3)] }, canaryFrom(at2, 3), 'VERSION_RETIRED'],
    [
      'of a quarantined version is refused',
      { ...at2, quarantined: [tagOf(3)] },
      canaryFrom(at2, 3),
      'VERSION_QUARANTINED',
    ],
    ['of the active version is refused', at2, canaryFrom(at2, 2), 'CONFLICT'],
    ['with nothing to compare it with is refused', null, canaryFrom(emptyPointer(DATASET), 1), 'CONFLICT'],
    ['takes the place of the one before', running, canaryFrom(running, 4), 'applied'],
    ['lets no flip through that was planned without it', running, flipFrom(at2, 3, { epoch: epoch(9) }), 'CONFLICT'],
    ['lets the flip through that knows it', running, flipFrom(running, 3), 'applied'],
    ['of a retained candidate: it is not retired', running, { kind: 'retire', tag: tagOf(3) }, 'CONFLICT'],
    ['ended', running, { kind: 'endCanary', canaryId }, 'applied'],
    ['ended twice', at2, { kind: 'endCanary', canaryId }, 'already'],
    ['is not ended by the end of another', running, { kind: 'endCanary', canaryId: 'another' }, 'already'],
    ['takes a larger share', running, { kind: 'ramp', canaryId, share: 0.5 }, 'applied'],
    ['takes no smaller share', running, { kind: 'ramp', canaryId, share: 0.05 }, 'already'],
    ['takes no share of another canary', running, { kind: 'ramp', canaryId: 'another', share: 0.5 }, 'CONFLICT'],
    ['takes no share after it ended', at2, { kind: 'ramp', canaryId, share: 0.5 }, 'CONFLICT'],
  ]
  it.each(cases)('%s', (_title, pointer, change, expected) => expect(outcomeOf(pointer, change)).toBe(expected))

  it.each([
    ['a flip to the candidate', flipFrom(running, 3)],
    ['a flip to another version', flipFrom(running, 4)],
    ['a rollback', rollbackFrom(running, 1)],
    ['a break-glass rollback', breakGlassFrom(running, 1)],
    ['a hold', { kind: 'hold', hold: HOLD }],
    ['a quarantine of the candidate', { kind: 'quarantine', tag: tagOf(3) }],
  ] satisfies Array<[string, PointerChange]>)('is ended by %s', (_title, change) => {
    expect(changed(running, change).candidate).toBeNull()
  })

  it('is not ended by the quarantine of another version, nor by a ramp', () => {
    expect(changed(running, { kind: 'quarantine', tag: tagOf(1) }).candidate).toEqual(running.candidate)
    expect(changed(running, { kind: 'ramp', canaryId, share: 0.5 }).candidate).toEqual({
      ...running.candidate,
      share: 0.5,
    })
  })

  it.each([0, 1, -0.1, 1.5])('has a share between none and all of the readers, not %s', (share) => {
    expect(candidateSchema.safeParse({ ...running.candidate, share }).success).toBe(false)
  })
})
