/**
 * How fresh an answer must be.
 * - `any`: by a version that was active within the reader's follow lag.
 * - `maxStale(ms)`: by a version that was active at most `ms` before the call; 0 reads the pointer in the same round trip.
 * - `atLeast(tag)`: by that version or one after it in the registry's order; waits for it as long as the reader's `waitMs`.
 *
 * What cannot be had in time is a READER_STALE error, whatever the reader's `onStale` says.
 */
export type Freshness = 'any' | { readonly maxStaleMs: number } | { readonly atLeast: string }

export const any: Freshness = 'any'

export function maxStale(ms: number): Freshness {
  return { maxStaleMs: ms }
}

export function atLeast(tag: string): Freshness {
  return { atLeast: tag }
}
