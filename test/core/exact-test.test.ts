import { describe, expect, it } from 'vitest'
import { byChance, pairsByChance } from '../../src/core/exact-test.ts'
import { alphaOf, LOOKS, lookDue } from '../../src/core/looks.ts'

describe('the exact test of two shares', () => {
  it.each([
    // Fisher's lady and her tea: all four of four, and three of four.
    [{ hits: 4, of: 4 }, { hits: 0, of: 4 }, 1 / 70],
    [{ hits: 3, of: 4 }, { hits: 1, of: 4 }, 17 / 70],
    // Sums of the hypergeometric distribution.
    [{ hits: 3, of: 10 }, { hits: 1, of: 20 }, 0.09523809523809523],
    [{ hits: 60, of: 1000 }, { hits: 30, of: 1000 }, 0.0008566],
  ])('of %o against %o is %d', (here, there, expected) => {
    expect(byChance(here, there)).toBeCloseTo(expected, 4)
  })

  it('is certain where nothing speaks against the first side', () => {
    expect(byChance({ hits: 0, of: 10 }, { hits: 5, of: 10 })).toBe(1)
    expect(byChance({ hits: 5, of: 5 }, { hits: 9, of: 9 })).toBe(1)
    expect(byChance({ hits: 0, of: 0 }, { hits: 0, of: 0 })).toBe(1)
  })

  it('sums up to one over all that may happen, whatever the sizes', () => {
    for (const [here, there, hits] of [
      [5, 7, 4],
      [40, 13, 20],
      [200, 300, 17],
    ] as const) {
      const least = Math.max(0, hits - there)
      const most = Math.min(hits, here)
      let sum = 0
      for (let k = least; k <= most; k++) {
        const above = k === most ? 0 : byChance({ hits: k + 1, of: here }, { hits: hits - k - 1, of: there })
        sum += byChance({ hits: k, of: here }, { hits: hits - k, of: there }) - above
      }
      expect(sum).toBeCloseTo(1, 9)
    }
  })

  it('holds its own with a million reads', () => {
    expect(byChance({ hits: 1200, of: 1_000_000 }, { hits: 1000, of: 1_000_000 })).toBeLessThan(1e-4)
    expect(byChance({ hits: 1010, of: 1_000_000 }, { hits: 1000, of: 1_000_000 })).toBeGreaterThan(0.3)
  })
})

it('the exact test of pairs counts those that fell apart', () => {
  expect(pairsByChance(5, 5)).toBeCloseTo(1 / 32)
  expect(pairsByChance(1, 1)).toBeCloseTo(0.5)
  expect(pairsByChance(0, 0)).toBe(1)
})

describe('looks', () => {
  it('share one alpha, of which none spends more than was left for it', () => {
    const spent = Array.from({ length: LOOKS }, (_, n) => alphaOf(n + 1, 0.01))
    expect(spent.reduce((sum, alpha) => sum + alpha, 0)).toBeCloseTo(0.01, 12)
    expect(Math.min(...spent)).toBeGreaterThan(0)
  })

  it('are due at equal parts of the time, the last one at its end', () => {
    expect(lookDue({ elapsedMs: 0, forMs: 2000 })).toBe(0)
    expect(lookDue({ elapsedMs: 100, forMs: 2000 })).toBe(1)
    expect(lookDue({ elapsedMs: 1999, forMs: 2000 })).toBe(LOOKS - 1)
    expect(lookDue({ elapsedMs: 9999, forMs: 2000 })).toBe(LOOKS)
  })
})
