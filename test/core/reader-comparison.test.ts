import { describe, expect, it } from 'vitest'
import { LATENCY_BOUNDS_MS } from '../../schemas/counters.ts'
import { canaryPolicySchema } from '../../schemas/watch.ts'
import { LOOKS } from '../../src/core/looks.ts'
import {
  beyondLimits,
  compareReaders,
  countsOf,
  MEASURES,
  type ReaderCounts,
} from '../../src/core/reader-comparison.ts'

const policy = canaryPolicySchema.parse({ minimumReads: 200, minimumReaders: 2 })

/** A reader's counts of a version. */
function reader(
  counts: Partial<{ reads: number; misses: number; errors: number; bad: number; slow: number }>,
): ReaderCounts {
  const { reads = 500, misses = 0, errors = 0, bad = 0, slow = 0 } = counts
  const latencyMs = [...LATENCY_BOUNDS_MS, 0].map(() => 0)
  latencyMs[2] = Math.max(0, reads - slow)
  latencyMs[latencyMs.length - 1] = slow
  const at = '2026-05-18T10:00:00Z'
  const ids = { watchId: 'w', side: 'active', tag: 'v20260518-01', readerId: 'r' } as const
  return countsOf({ ...ids, reads, misses, errors, bad, latencyMs, recentKeys: {}, since: at, at }, policy.slowMs)
}
const times = (n: number, counts: Parameters<typeof reader>[0]) => Array.from({ length: n }, () => reader(counts))
const verdictOf = (judged: ReaderCounts[], other: ReaderCounts[], measure: (typeof MEASURES)[number]) =>
  compareReaders({ judged, other }, policy, LOOKS).findings.find((finding) => finding.measure === measure)?.verdict

describe('readers on a candidate', () => {
  it.each([
    ['errors', { errors: 50 }],
    ['misses', { misses: 100 }],
    ['bad', { bad: 10 }],
    ['slow', { slow: 200 }],
  ] as const)('vote it out by %s when most of them have more', (measure, counts) => {
    expect(verdictOf(times(5, counts), times(50, {}), measure)).toBe('worse')
    expect(verdictOf(times(5, {}), times(50, {}), measure)).toBe('fine')
    // As bad on both sides: it is not the candidate.
    expect(verdictOf(times(5, counts), times(50, counts), measure)).toBe('fine')
    // Better than the active version.
    expect(verdictOf(times(5, {}), times(50, counts), measure)).toBe('fine')
  })

  it.each(MEASURES)(
    'do not vote it out by %s where a single one of them has it badly, whatever it counts',
    (measure) => {
      const worst = reader({ reads: 1_000_000, misses: 1_000_000, errors: 1_000_000, bad: 1_000_000, slow: 1_000_000 })
      // One that has read too little to tell is no second voice.
      const quiet = { ...reader({ reads: 5 }), bad: { hits: 0, of: 0 } }
      expect(verdictOf([worst, quiet], times(20, {}), measure)).not.toBe('worse')
      for (const others of [0, 1, 2, 3, 20]) {
        expect(verdictOf([worst, ...times(others, {})], times(20, {}), measure)).not.toBe('worse')
      }
    },
  )

  it('vote alone: those who are on the active version, and report nothing of the candidate, water down no voice', () => {
    const elsewhere = times(15, { reads: 0 })
    expect(verdictOf([...times(5, { bad: 10 }), ...elsewhere], times(20, {}), 'bad')).toBe('worse')
  })

  it('have a bad version out even where a single reader on the other side counts as badly', () => {
    const loud = reader({ reads: 1_000_000, misses: 1_000_000 })
    expect(verdictOf(times(10, { misses: 450 }), [loud, ...times(60, {})], 'misses')).toBe('worse')
  })

  it('say nothing against it while they are too few, or have read too little', () => {
    expect(verdictOf(times(1, { misses: 500 }), times(50, {}), 'misses')).toBe('fine')
    expect(verdictOf(times(2, { reads: 90, misses: 90 }), times(50, {}), 'misses')).toBe('fine')
    expect(verdictOf(times(2, { misses: 500 }), times(1, {}), 'misses')).toBe('fine')
    expect(compareReaders({ judged: times(1, {}), other: times(50, {}) }, policy, 1).isEnough).toBe(false)
  })

  it('may have as much more as is declared', () => {
    expect(verdictOf(times(5, { misses: 4 }), times(50, {}), 'misses')).toBe('fine')
    expect(verdictOf(times(5, { misses: 40 }), times(50, { misses: 36 }), 'misses')).toBe('fine')
  })

  it('that answer nothing at all count as reading', () => {
    expect(verdictOf(times(5, { reads: 0, errors: 500 }), times(50, {}), 'errors')).toBe('worse')
  })
})

it('a version that is no worse is seldom refused, however often it is looked at', () => {
  // Misses of one in ten on both sides, drawn anew: over all looks together at most one run in a hundred is refused.
  let refused = 0
  const random = lcg(7)
  for (let run = 0; run < 100; run++) {
    const sides = { judged: times(4, { reads: 0 }), other: times(4, { reads: 0 }) }
    let isRefused = false
    for (let look = 1; look <= LOOKS; look++) {
      for (const counts of [...sides.judged, ...sides.other]) {
        for (let read = 0; read < 50; read++) if (random() < 0.1) counts.misses.hits++
        counts.misses.of += 50
        counts.errors.of += 50
      }
      isRefused ||= compareReaders(
        sides,
        { ...policy, maxWorse: { ...policy.maxWorse, misses: 0 } },
        look,
      ).findings.some(({ verdict }) => verdict !== 'fine')
    }
    if (isRefused) refused++
  }
  expect(refused).toBeLessThanOrEqual(1)
})

describe('limits whatever the version before was like', () => {
  const max = { errors: 0.05, misses: 0.5 }
  const verdicts = (judged: ReaderCounts[]) =>
    beyondLimits(judged, policy, max, 1).findings.map(({ verdict }) => verdict)

  it('are asked of the measures that have one', () => {
    expect(verdicts(times(3, { errors: 100, bad: 10 }))).toEqual(['worse', 'fine'])
    expect(verdicts(times(3, { misses: 400 }))).toEqual(['fine', 'worse'])
    expect(verdicts(times(3, { misses: 200 }))).toEqual(['fine', 'fine'])
  })

  it('are not crossed by a single reader', () => {
    expect(verdicts([reader({ errors: 1_000_000 }), ...times(3, {})])).toEqual(['few', 'fine'])
    expect(verdicts([reader({ errors: 1_000_000 })])).toEqual(['fine', 'fine'])
  })
})

/** Drawn the same each time. */
function lcg(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
