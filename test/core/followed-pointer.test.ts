import { describe, expect, it } from 'vitest'
import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import { followedPointer } from '../../src/core/followed-pointer.ts'
import { canaryFrom, changed, epoch, flipped, HOLD, tagOf, version } from './pointers.ts'

/** As the version lies in the further store: the same content, other bytes. */
const copyOf = (ordinal: number): VersionRef => ({ ...version(ordinal), manifest: 'c'.repeat(64) })
const having =
  (...ordinals: number[]) =>
  (tag: string) =>
    ordinals.map(copyOf).find((copy) => copy.tag === tag) ?? null
const first = (pointer: Pointer) => pointer as Pointer & { active: VersionRef }

function followed(...args: Parameters<typeof followedPointer>): Pointer {
  const next = followedPointer(...args)
  if (next.outcome !== 'follows') throw new Error(`it does not follow: ${JSON.stringify(next)}`)
  return next.pointer
}

describe("a further store's pointer", () => {
  it("says what the first store's says, of the versions as they lie there", () => {
    const now = { ...flipped(1, 2), hold: HOLD, quarantined: [tagOf(9)] }
    expect(followed(first(now), null, having(1, 2))).toEqual({ ...now, active: copyOf(2), previous: copyOf(1) })
  })

  it('stays where it is while the version is not there', () => {
    expect(followedPointer(first(flipped(1, 2)), flipped(1), having(1))).toEqual({
      outcome: 'behind',
      lacks: version(2),
    })
  })

  it('names no rollback target, candidate or pinned version that is not there', () => {
    const now = changed(flipped(1, 2), canaryFrom(flipped(1, 2), 3))
    expect(followed(first(now), null, having(2))).toMatchObject({ previous: null, candidate: null })
    expect(followed(first(now), null, having(2, 3)).candidate?.version).toEqual(copyOf(3))
    const pin = { version: version(1), until: '2030-01-01T00:00:00Z', by: 'ann', reason: 'an audit' }
    expect(followed(first({ ...flipped(1, 2), pin }), null, having(2)).pin).toBeNull()
    expect(followed(first({ ...flipped(1, 2), pin }), null, having(1, 2)).pin?.version).toEqual(copyOf(1))
  })

  it('never goes to a lower epoch', () => {
    const own = { ...flipped(1), epoch: epoch(7) }
    expect(followedPointer(first(flipped(1, 2)), own, having(1, 2))).toMatchObject({
      outcome: 'refused',
      code: 'CONFLICT',
    })
  })

  it('keeps its own retired versions marked until it has swept them, and marks those it has a copy of', () => {
    const now = { ...flipped(4, 5), retired: [tagOf(2), tagOf(3)] }
    expect(followed(first(now), { ...flipped(4), retired: [tagOf(1)] }, having(3, 4, 5)).retired).toEqual([
      tagOf(1),
      tagOf(3),
    ])
    // It was retired here, and came back there.
    expect(followed(first(flipped(4, 5)), { ...flipped(4), retired: [tagOf(5)] }, having(5)).retired).toEqual([])
    const pin = { version: version(1), until: '2030-01-01T00:00:00Z', by: 'ann', reason: 'an audit' }
    const compared = { ...changed(flipped(4, 5), canaryFrom(flipped(4, 5), 6)), pin }
    const own = { ...flipped(4), retired: [tagOf(1), tagOf(4), tagOf(6)] }
    expect(followed(first(compared), own, having(1, 4, 5, 6)).retired).toEqual([])
  })

  it('is not changed by code that is too old for it', () => {
    const own = { ...flipped(1), minWriter: 99 }
    expect(followedPointer(first(flipped(1, 2)), own, having(1, 2))).toMatchObject({ code: 'FORMAT_TOO_NEW' })
  })
})
