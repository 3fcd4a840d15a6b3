import { type VersionRef, versionRefSchema } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'

/**
 * How fresh an answer must be.
 * - `any`: by a version that was active within the reader's follow lag.
 * - `maxStale(ms)`: by a version that was active at most `ms` before the call; 0 reads the pointer in the same round trip.
 * - `atLeast(version)`: by that version or one after it in the registry's order; waits for it as long as the reader's `waitMs`. The
 *   order of a tag is looked up in the stores, and one that none of them has is UNKNOWN_VERSION; a whole ref (`reader.version`,
 *   `entry.version`) has its order with it, and holds when the version was deleted long ago.
 *
 * What cannot be had in time is a READER_STALE error, whatever the reader's `onStale` says.
 */
export type Freshness = 'any' | { readonly maxStaleMs: number } | { readonly atLeast: string | VersionRef }

/** Within the reader's follow lag: what a call that says nothing gets. */
export const any: Freshness = 'any'

/** @param ms 0 or more. */
export function maxStale(ms: number): Freshness {
  return { maxStaleMs: ms }
}

/** @param version a tag, or a ref that needs no look-up. */
export function atLeast(version: string | VersionRef): Freshness {
  return { atLeast: version }
}

/** Throws USAGE for what says no freshness: a number that is none would let every answer pass. */
export function parseFreshness(fresh: Exclude<Freshness, 'any'>): Exclude<Freshness, 'any'> {
  if (typeof fresh === 'object' && fresh !== null) {
    if ('maxStaleMs' in fresh && Number.isFinite(fresh.maxStaleMs) && fresh.maxStaleMs >= 0) return fresh
    if ('atLeast' in fresh) {
      if (typeof fresh.atLeast === 'string' || versionRefSchema.safeParse(fresh.atLeast).success) return fresh
    }
  }
  throw new SnapflipError(
    'USAGE',
    `Option fresh of a read is ${JSON.stringify(fresh)}, expected any, maxStale(milliseconds from 0), or atLeast(tag or version).`,
    { option: 'fresh' },
  )
}
