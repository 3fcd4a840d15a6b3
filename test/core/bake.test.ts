import { describe, expect, it } from 'vitest'
import { type Anchor, BREAK_GLASS_MAX, RECENT_FLIPS_MAX } from '../../schemas/pointer.ts'
import { anchorsIn, withContradicted } from '../../src/core/anchor.ts'
import { breakGlassFrom, changed, flipFrom, flipped, outcomeOf, rollbackFrom, version } from './pointers.ts'

const UNTIL = '2026-05-18T11:00:00Z'

describe('a bake', () => {
  const at2 = flipped(1, 2)
  const baking3 = changed(at2, flipFrom(at2, 3, { flipId: 'third', bakeUntil: UNTIL }))

  it('is declared by a flip, and named by its id', () => {
    expect(baking3.bake).toEqual({ flipId: 'third', until: UNTIL })
    expect(at2.bake).toBeNull()
  })

  it('ends when its version stood it, once, and by its own flip alone', () => {
    expect(outcomeOf(baking3, { kind: 'baked', flipId: 'another' })).toBe('already')
    const baked = changed(baking3, { kind: 'baked', flipId: 'third' })
    expect(baked).toEqual({ ...baking3, bake: null })
    expect(outcomeOf(baked, { kind: 'baked', flipId: 'third' })).toBe('already')
  })

  it('that was finished makes its version the rollback target of the next flip', () => {
    const baked = changed(baking3, { kind: 'baked', flipId: 'third' })
    expect(changed(baked, flipFrom(baked, 4)).previous).toEqual(version(3))
  })

  it('that was cut short by the next flip leaves the target before', () => {
    const next = changed(baking3, flipFrom(baking3, 4, { bakeUntil: UNTIL }))
    expect(next).toMatchObject({ previous: version(2), bake: { flipId: 'flip-4' } })
    expect(changed(next, flipFrom(next, 5)).previous).toEqual(version(2))
  })

  it('that was cut short leaves its version as the target where there is no other', () => {
    const first = changed(flipped(), flipFrom(flipped(), 1, { bakeUntil: UNTIL }))
    expect(changed(first, flipFrom(first, 2)).previous).toEqual(version(1))
  })

  it.each([
    ['rollback', () => rollbackFrom(baking3, 2)],
    ['break-glass rollback', () => breakGlassFrom(baking3, 2)],
  ])('ends with a %s', (_title, change) => {
    expect(changed(baking3, change())).toMatchObject({ active: version(2), bake: null, previous: null })
  })
})

describe('what else a flip carries', () => {
  const at2 = flipped(1, 2)
  const ttl = { budgetMs: 60_000, beyond: 'refuse' } as const
  const anchor = (seq: number): Anchor => ({ seq, hash: `${seq}`.repeat(64) })

  it('a TTL stays until another is declared, and is taken back by null', () => {
    const declared = changed(at2, flipFrom(at2, 3, { ttl }))
    expect(declared.ttl).toEqual(ttl)
    expect(changed(declared, rollbackFrom(declared, 2)).ttl).toEqual(ttl)
    expect(changed(declared, flipFrom(declared, 4, { ttl: null })).ttl).toBeNull()
  })

  it('a TTL can come with the news that nothing is new', () => {
    const freshAsOf = { snapshot: '1:1:', at: '2026-05-18T10:00:00Z' }
    const fresh = { kind: 'fresh' as const, expectedTag: version(2).tag, freshAsOf }
    expect(changed(at2, { ...fresh, ttl }).ttl).toEqual(ttl)
    const declared = { ...at2, ttl }
    expect(changed(declared, fresh).ttl).toEqual(ttl)
    expect(changed(declared, { ...fresh, ttl: null }).ttl).toBeNull()
  })

  it('an anchor only goes forward', () => {
    const nine = changed(at2, flipFrom(at2, 3, { anchor: anchor(9) }))
    expect(nine.anchor).toEqual(anchor(9))
    expect(changed(nine, flipFrom(nine, 4, { anchor: anchor(7) })).anchor).toEqual(anchor(9))
    expect(changed(nine, flipFrom(nine, 4)).anchor).toEqual(anchor(9))
    expect(changed(nine, flipFrom(nine, 4, { anchor: { ...anchor(9), hash: '0'.repeat(64) } })).anchor).toEqual(
      anchor(9),
    )
    expect(changed(nine, flipFrom(nine, 4, { anchor: { ...anchor(9), seq: 10 } })).anchor?.seq).toBe(10)
  })

  it('an anchor that the history does not lead to any more stays beside later ones: the oldest eight, each once', () => {
    let now = changed(at2, flipFrom(at2, 3, { anchor: anchor(1) }))
    for (let seq = 2; seq < 10; seq++)
      for (const twice of [1, 2])
        now = changed(now, flipFrom(now, seq * 2 + twice, { anchor: anchor(seq), contradicted: anchor(seq - 1) }))
    expect(now.anchor).toEqual(anchor(9))
    expect(now.contradicted.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    const after = flipFrom(now, 30, { anchor: { ...anchor(9), seq: 10 }, contradicted: anchor(9) })
    expect(changed(now, after).contradicted).toEqual(now.contradicted)
    expect(changed(now, flipFrom(now, 30)).contradicted).toEqual(now.contradicted)
  })

  it('an anchor that a person accepts stays, with the entry that accepts it, and no other one is', () => {
    const [A, B, C, entry, again] = [1, 2, 3, 4, 5].map(anchor) as [Anchor, Anchor, Anchor, Anchor, Anchor]
    const at = { ...at2, anchor: C, contradicted: [A, B] }
    const accepted = changed(at, { kind: 'acceptAnchor', anchor: B, entry })
    expect(accepted).toEqual({ ...at, contradicted: [A, { ...B, acceptedBy: entry }] })
    expect(outcomeOf(accepted, { kind: 'acceptAnchor', anchor: B, entry })).toBe('already')
    // The last flip's: the entry is what comes after it.
    const last = changed(at, { kind: 'acceptAnchor', anchor: C, entry })
    expect([last.anchor, last.contradicted]).toEqual([entry, [A, B, { ...C, acceptedBy: entry }]])
    expect(anchorsIn(last)).toEqual([...last.contradicted, entry])
    expect(anchorsIn({ anchor: B, contradicted: accepted.contradicted })).toEqual(accepted.contradicted)
    expect(outcomeOf(at, { kind: 'acceptAnchor', anchor: { ...B, hash: '0'.repeat(64) }, entry })).toBe('CONFLICT')
    // Again, after a cut that took the entry with it; a flip that finds it contradicted once more takes nothing back.
    const twice = changed(accepted, { kind: 'acceptAnchor', anchor: B, entry: again })
    expect(twice.contradicted).toEqual([A, { ...B, acceptedBy: again }])
    expect(changed(twice, flipFrom(twice, 3, { contradicted: B })).contradicted).toEqual(twice.contradicted)
    expect(withContradicted([A, B], twice.contradicted)).toEqual(twice.contradicted)
  })

  it('accepted anchors make room for those that nobody has looked at', () => {
    const eight = [1, 2, 3, 4, 5, 6, 7, 8].map(anchor)
    const accepted = eight.map((one, n) => (n === 2 ? { ...one, acceptedBy: anchor(9) } : one))
    const nine = { ...anchor(9), seq: 10 }
    expect(withContradicted(accepted, [nine])).toEqual([...eight.filter((_, n) => n !== 2), nine])
    expect(withContradicted(accepted.slice(1), [nine])).toContainEqual(accepted[2])
  })

  it('the pointer stays small, however long the outage', () => {
    let now = flipped(1, 2)
    for (let n = 0; n < BREAK_GLASS_MAX; n++)
      now = changed(now, breakGlassFrom(now, n + 3, { reason: 'x'.repeat(200) }))
    expect(now.flips).toHaveLength(RECENT_FLIPS_MAX)
    expect(JSON.stringify(now).length).toBeLessThan(64 << 10)
  })
})
