import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Pointer, pointerSchema } from '../../schemas/pointer.ts'
import {
  applyChange,
  compareEpoch,
  emptyPointer,
  formatEpoch,
  NO_EPOCH,
  type PointerChange,
} from '../../src/core/pointer.ts'
import {
  breakGlassFrom,
  canaryFrom,
  DATASET,
  epoch,
  flipFrom,
  flipped,
  HOLD,
  outcomeOf,
  pointerOf,
  rollbackFrom,
  tagOf,
  version,
} from './pointers.ts'

describe('a flip', () => {
  const at3 = flipped(1, 2, 3)
  const cases: Array<[title: string, pointer: Pointer | null, change: PointerChange, expected: string]> = [
    ['starts a dataset without a pointer', null, flipFrom(emptyPointer(DATASET), 1), 'applied'],
    ['moves forward', at3, flipFrom(at3, 4), 'applied'],
    ['made twice is already there', at3, flipFrom(flipped(1, 2), 3), 'already'],
    ['made and overtaken is already there', at3, flipFrom(flipped(1), 2), 'already'],
    ['with the same epoch is superseded', at3, flipFrom(at3, 4, { epoch: epoch(3) }), 'SUPERSEDED'],
    ['with a lower epoch is superseded', at3, flipFrom(at3, 4, { epoch: epoch(2, 9) }), 'SUPERSEDED'],
    ['with a higher break-glass count alone is taken', at3, flipFrom(at3, 4, { epoch: epoch(3, 1) }), 'applied'],
    [
      'that expects another version conflicts',
      at3,
      flipFrom(at3, 4, { expected: { tag: tagOf(2), epoch: epoch(3) } }),
      'CONFLICT',
    ],
    [
      'that expects the version of an earlier epoch conflicts',
      at3,
      flipFrom(at3, 4, { expected: { tag: tagOf(3), epoch: epoch(1) } }),
      'CONFLICT',
    ],
    ['that expects a pointer finds none', null, flipFrom(at3, 4), 'CONFLICT'],
    ['to a retired version is refused', { ...at3, retired: [tagOf(1)] }, flipFrom(at3, 1), 'VERSION_RETIRED'],
    [
      'to a quarantined version is refused',
      { ...at3, quarantined: [tagOf(1)] },
      flipFrom(at3, 1),
      'VERSION_QUARANTINED',
    ],
    [
      'to the version it quarantines is refused',
      at3,
      flipFrom(at3, 2, { also: { quarantine: [tagOf(2)] } }),
      'VERSION_QUARANTINED',
    ],
    ['while on hold is refused', { ...at3, hold: HOLD }, flipFrom(at3, 4), 'ON_HOLD'],
    ['by a person works while on hold', { ...at3, hold: HOLD }, flipFrom(at3, 2, { allowHold: true }), 'applied'],
  ]
  it.each(cases)('%s', (_title, pointer, change, expected) => {
    expect(outcomeOf(pointer, change)).toBe(expected)
  })

  it('says where the pointer is, what was expected and where to look', () => {
    const outcome = applyChange(flipped(1, 2), flipFrom(flipped(1), 3, { flipId: 'mine', epoch: epoch(7) }), DATASET)
    expect(outcome).toMatchObject({
      outcome: 'refused',
      code: 'CONFLICT',
      message:
        'Pointer of shop is at v20260518-02 (epoch 2), expected v20260518-01 (epoch 1). ' +
        'Another flip came first; see `snapflip status shop`.',
      details: { dataset: 'shop', activeTag: 'v20260518-02', activeEpoch: '2', expectedTag: 'v20260518-01' },
    })
  })

  it('that comes late is refused after v1→v0→v1, though the same version is active again', () => {
    const before = flipped(2)
    const late = flipFrom(before, 3, { flipId: 'late', epoch: epoch(9) })
    const after = flipped(2, 1, 2)
    expect(after.active).toEqual(before.active)
    expect(applyChange(after, late, DATASET)).toMatchObject({ outcome: 'refused', code: 'CONFLICT' })
  })

  it('leaves the version it came from as rollback target', () => {
    expect(flipped(1, 2, 3).previous).toEqual(version(2))
  })

  it('back without a quarantine, as a drill makes it, leaves nothing newer as rollback target; and forward again, the same as before', () => {
    const before = flipped(1, 2, 3)
    const away = pointerOf(applyChange(before, flipFrom(before, 2), DATASET))
    expect(away).toMatchObject({ active: version(2), previous: null, quarantined: [] })
    const back = flipFrom(away, 3, { flipId: 'back', epoch: epoch(5) })
    expect(pointerOf(applyChange(away, back, DATASET)).previous).toEqual(version(2))
  })
})

describe('a rollback', () => {
  it('quarantines what it leaves and holds the dataset in the same step', () => {
    const before = flipped(1, 2)
    const after = pointerOf(applyChange(before, rollbackFrom(before, 1), DATASET))
    expect(after).toMatchObject({ active: version(1), hold: HOLD, quarantined: [tagOf(2)] })
  })

  it('of v1→v2 leaves no rollback target: v2 is quarantined and v1 active', () => {
    const before = flipped(1, 2)
    expect(pointerOf(applyChange(before, rollbackFrom(before, 1), DATASET)).previous).toBeNull()
  })

  it('past a version does not make that one the target', () => {
    const before = flipped(1, 2, 3)
    expect(pointerOf(applyChange(before, rollbackFrom(before, 1), DATASET)).previous).toBeNull()
  })

  it('keeps the older target when it leaves a version that came from a rolled-back one', () => {
    const atHeld = { ...flipped(1, 2), quarantined: [tagOf(2)] }
    const after = pointerOf(applyChange(atHeld, flipFrom(atHeld, 3), DATASET))
    expect(after.previous).toEqual(version(1))
  })
})

describe('other changes', () => {
  const at2 = flipped(1, 2)
  const late = { snapshot: '20:20:', at: '2026-05-18T12:00:00Z' }
  const early = { snapshot: '10:10:', at: '2026-05-18T11:00:00.000Z' }
  const cases: Array<[title: string, pointer: Pointer | null, change: PointerChange, expected: string]> = [
    [
      'fresh moves forward',
      { ...at2, freshAsOf: early },
      { kind: 'fresh', expectedTag: tagOf(2), freshAsOf: late },
      'applied',
    ],
    [
      'fresh never moves back',
      { ...at2, freshAsOf: late },
      { kind: 'fresh', expectedTag: tagOf(2), freshAsOf: early },
      'already',
    ],
    ['fresh of another version conflicts', at2, { kind: 'fresh', expectedTag: tagOf(1), freshAsOf: late }, 'CONFLICT'],
    ['hold before the first flip', null, { kind: 'hold', hold: HOLD }, 'applied'],
    ['hold twice', { ...at2, hold: HOLD }, { kind: 'hold', hold: HOLD }, 'already'],
    ['resume', { ...at2, hold: HOLD }, { kind: 'resume', holds: [HOLD] }, 'applied'],
    ['resume of a hold before', { ...at2, hold: HOLD }, { kind: 'resume', holds: [{ ...HOLD, by: 'bo' }] }, 'already'],
    ['resume without a hold', at2, { kind: 'resume', holds: [HOLD] }, 'already'],
    ['quarantine', at2, { kind: 'quarantine', tag: tagOf(1) }, 'applied'],
    ['quarantine of the active version conflicts', at2, { kind: 'quarantine', tag: tagOf(2) }, 'CONFLICT'],
    ['quarantine twice', { ...at2, quarantined: [tagOf(1)] }, { kind: 'quarantine', tag: tagOf(1) }, 'already'],
    ['release', { ...at2, quarantined: [tagOf(1)] }, { kind: 'release', tag: tagOf(1) }, 'applied'],
    ['release of what is not quarantined', at2, { kind: 'release', tag: tagOf(1) }, 'already'],
    ['fence raises the epoch', at2, { kind: 'fence', epoch: epoch(3) }, 'applied'],
    ['fence before the first flip', null, { kind: 'fence', epoch: epoch(1) }, 'applied'],
    ['fence of an epoch that was reached', at2, { kind: 'fence', epoch: epoch(2) }, 'already'],
    ['retire of the active version conflicts', at2, { kind: 'retire', tag: tagOf(2) }, 'CONFLICT'],
    ['retire of the rollback target conflicts', at2, { kind: 'retire', tag: tagOf(1) }, 'CONFLICT'],
    ['retire of an older version', flipped(1, 2, 3), { kind: 'retire', tag: tagOf(1) }, 'applied'],
    ['retire twice', { ...at2, retired: [tagOf(9)] }, { kind: 'retire', tag: tagOf(9) }, 'already'],
    ['forget', { ...at2, retired: [tagOf(9)] }, { kind: 'forget', tag: tagOf(9) }, 'applied'],
    ['forget of what is not retired', at2, { kind: 'forget', tag: tagOf(9) }, 'already'],
  ]
  it.each(cases)('%s', (_title, pointer, change, expected) => {
    expect(outcomeOf(pointer, change)).toBe(expected)
  })

  it('a fence rules out a flip of its epoch, and changes nothing that readers see', () => {
    const late = flipFrom(at2, 3)
    const fenced = pointerOf(applyChange(at2, { kind: 'fence', epoch: late.epoch }, DATASET))
    expect(fenced).toEqual({ ...at2, epoch: late.epoch })
    expect(applyChange(fenced, late, DATASET)).toMatchObject({ outcome: 'refused', code: 'SUPERSEDED' })
  })

  it('quarantining the rollback target leaves none', () => {
    expect(pointerOf(applyChange(at2, { kind: 'quarantine', tag: tagOf(1) }, DATASET)).previous).toBeNull()
  })

  it('forgetting a retired version keeps its quarantine', () => {
    const pointer = { ...at2, retired: [tagOf(9)], quarantined: [tagOf(9)] }
    expect(pointerOf(applyChange(pointer, { kind: 'forget', tag: tagOf(9) }, DATASET))).toMatchObject({
      retired: [],
      quarantined: [tagOf(9)],
    })
  })
})

describe('epochs', () => {
  it('compare by the registry number first', () => {
    expect(compareEpoch(epoch(2, 0), epoch(1, 9))).toBeGreaterThan(0)
    expect(compareEpoch(epoch(2, 1), epoch(2, 2))).toBeLessThan(0)
    expect(compareEpoch(epoch(2, 1), epoch(2, 1))).toBe(0)
  })

  it('print their break-glass part only when there is one', () => {
    expect([formatEpoch(epoch(8)), formatEpoch(epoch(8, 2))]).toEqual(['8', '8+2'])
  })
})

describe('whatever changes come in whatever order', () => {
  const ordinals = fc.integer({ min: 1, max: 6 })
  const tags = ordinals.map(tagOf)
  const epochs = fc.record({ registry: fc.nat(6), breakGlass: fc.nat(2) })
  const freshAsOf = fc.nat(59).map((second) => ({
    snapshot: `${second + 1}:${second + 1}:`,
    at: `2026-05-18T10:00:${String(second).padStart(2, '0')}Z`,
  }))
  const wildFlip = fc.record({
    kind: fc.constant('flip' as const),
    flipId: fc.nat(20).map((id) => `wild-${id}`),
    expected: fc.record({ tag: fc.option(tags), epoch: epochs }),
    to: ordinals.map(version),
    epoch: epochs,
    freshAsOf: fc.option(freshAsOf),
    allowHold: fc.boolean(),
    also: fc.record({ quarantine: fc.array(tags, { maxLength: 2 }) }),
    bakeUntil: fc.constant('2026-05-18T11:00:00Z'),
    anchor: fc.integer({ min: 1, max: 9 }).map((seq) => ({ seq, hash: `${seq}`.repeat(64) })),
  })
  const changes: fc.Arbitrary<(now: Pointer) => PointerChange> = fc.oneof(
    wildFlip.map((change) => () => change),
    ordinals.map((ordinal) => (now: Pointer) => flipFrom(now, ordinal, { flipId: `tame-${now.epoch.registry}` })),
    ordinals.map((ordinal) => (now: Pointer) => flipFrom(now, ordinal, { bakeUntil: '2026-05-18T11:00:00Z' })),
    ordinals.map((ordinal) => (now: Pointer) => rollbackFrom(now, ordinal)),
    fc.tuple(ordinals, fc.boolean()).map(
      ([ordinal, rebound]) =>
        (now: Pointer) =>
          breakGlassFrom(now, ordinal, { rebound }),
    ),
    fc.nat(2).map((count) => (now: Pointer) => ({
      kind: 'absorb' as const,
      flipIds: now.breakGlass.slice(-count).map(({ flipId }) => flipId),
    })),
    fc.boolean().map((mine) => (now: Pointer) => ({
      kind: 'baked' as const,
      flipId: (mine ? now.bake?.flipId : null) ?? 'another',
    })),
    ordinals.map((ordinal) => (now: Pointer) => canaryFrom(now, ordinal)),
    fc.record({ share: fc.constantFrom(0.05, 0.1, 0.5) }).map(({ share }) => (now: Pointer) => ({
      kind: 'ramp' as const,
      canaryId: now.candidate?.canaryId ?? 'none',
      share,
    })),
    fc.constant((now: Pointer) => ({ kind: 'endCanary' as const, canaryId: now.candidate?.canaryId ?? 'none' })),
    ordinals.map((ordinal) => () => ({
      kind: 'pin' as const,
      pin: { version: version(ordinal), until: '2026-05-19T10:00:00Z', by: 'ann', reason: 'an audit' },
    })),
    tags.map((tag) => () => ({ kind: 'unpin' as const, tag, until: '2026-05-19T10:00:00Z' })),
    fc.record({ kind: fc.constant('fresh' as const), expectedTag: tags, freshAsOf }).map((change) => () => change),
    fc.constant(() => ({ kind: 'hold', hold: HOLD }) as const),
    fc.constant(() => ({ kind: 'resume', holds: [HOLD] }) as const),
    epochs.map((epoch) => () => ({ kind: 'fence', epoch }) as const),
    fc
      .record({ kind: fc.constantFrom('quarantine', 'release', 'retire', 'forget'), tag: tags })
      .map((change) => () => change as PointerChange),
  )

  it('epochs only rise, no retired or quarantined version is flipped to, and what readers may need is not retired', () => {
    fc.assert(
      fc.property(fc.array(changes, { minLength: 10, maxLength: 40 }), (makers) => {
        let now: Pointer | null = null
        for (const make of makers) {
          const change = make(now ?? emptyPointer(DATASET))
          const frozen = JSON.stringify(now)
          const outcome = applyChange(now, change, DATASET)
          expect(JSON.stringify(now)).toBe(frozen)
          if (outcome.outcome !== 'applied') continue
          const next: Pointer = outcome.pointer
          expect(pointerSchema.parse(next)).toEqual(next)

          const rise = compareEpoch(next.epoch, now?.epoch ?? NO_EPOCH)
          if (change.kind === 'flip' || change.kind === 'breakGlass') {
            expect(rise).toBeGreaterThan(0)
            expect(next.candidate).toBeNull()
          } else {
            expect(rise > 0).toBe(change.kind === 'fence' || change.kind === 'canary')
            expect(next.active).toEqual(now?.active ?? null)
          }
          expect(next.quarantined).not.toContain(next.active?.tag)
          if (change.kind === 'flip') expect(now?.hold == null || change.allowHold).toBe(true)
          if (change.kind === 'canary') expect(now?.hold).toBeNull()
          if (change.kind === 'flip' || change.kind === 'canary') expect(now?.breakGlass ?? []).toEqual([])
          if (change.kind === 'breakGlass') {
            expect(next.epoch.registry).toBe(now?.epoch.registry)
            expect(next.breakGlass[0]).toMatchObject({ flipId: change.flipId, epoch: next.epoch })
          }
          if (change.kind !== 'absorb') expect(next.breakGlass).toEqual(expect.arrayContaining(now?.breakGlass ?? []))
          expect(next.anchor?.seq ?? 0).toBeGreaterThanOrEqual(now?.anchor?.seq ?? 0)
          expect(next.retired).not.toContain(next.active?.tag)
          for (const named of [next.previous, next.candidate?.version, next.pin?.version]) {
            if (named != null) expect([...next.retired, ...next.quarantined]).not.toContain(named.tag)
          }
          if (next.bake !== null) expect(next.bake.flipId).toBe(next.flipId)
          if (next.active !== null) expect(next.previous?.tag).not.toBe(next.active.tag)

          // Made again, at once, it is already there.
          expect(applyChange(next, change, DATASET)).toEqual({ outcome: 'already', pointer: next })
          now = next
        }
      }),
      { numRuns: 1000 },
    )
  })
})
