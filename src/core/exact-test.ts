import { gammaln } from 'simple-statistics'

/** So many of so many. */
export interface Proportion {
  hits: number
  of: number
}

/** Beyond this a term no longer changes the sum. */
const NEGLIGIBLE = 1e-17

/**
 * How likely at least so many hits fall on the first side by chance alone, were both sides alike: Fisher's exact test, one-sided (R. A.
 * Fisher, Statistical Methods for Research Workers, 5th ed. 1934, § 21.02). Exact for three reads as for a million, so no other test is needed
 * where samples are small.
 */
export function byChance(here: Proportion, there: Proportion): number {
  const hits = here.hits + there.hits
  const all = here.of + there.of
  const most = Math.min(hits, here.of)
  const least = Math.max(0, hits - there.of)
  if (here.hits <= least) return 1
  // P(X = k), hypergeometric, then the terms above it, each from the one before. From above the mean on they only shrink.
  let term = Math.exp(choose(here.of, here.hits) + choose(there.of, there.hits) - choose(all, hits))
  let sum = 0
  for (let k = here.hits; k <= most; k++) {
    sum += term
    if (term < sum * NEGLIGIBLE) break
    term *= ((hits - k) / (k + 1)) * ((here.of - k) / (there.of - hits + k + 1))
  }
  return Math.min(1, sum)
}

/**
 * The same for pairs, of which only those count that fell apart: McNemar's test in its exact form, one-sided. `against` of all `apart` fell against
 * the first side.
 */
export function pairsByChance(against: number, apart: number): number {
  let sum = 0
  for (let k = against; k <= apart; k++) sum += Math.exp(choose(apart, k) - apart * Math.LN2)
  return Math.min(1, sum)
}

/** Logarithm of the binomial coefficient. */
function choose(n: number, k: number): number {
  return k === 0 || k === n ? 0 : gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
}
