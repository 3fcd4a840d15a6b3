import { xxh64 } from '../snapshot/hash.ts'

/** A double holds this many bits of the hash. */
const BITS = 53n

/**
 * Whether a reader's or request's key is on the candidate's side of a canary. The same for all who ask with one salt, and as the share grows
 * keys only come over to the candidate: none goes back and forth.
 */
export function isOnCandidateSide(key: string, { salt, share }: { salt: string; share: number }): boolean {
  const place = Number(xxh64(Buffer.from(`${salt}\0${key}`)) >> (64n - BITS)) / 2 ** Number(BITS)
  return place < share
}
