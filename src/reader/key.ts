import { SnapflipError } from '../core/errors.ts'
import { encodeKey } from '../snapshot/entry.ts'
import type { OpenIndex } from './version.ts'

/** Compared by its text: 42 and "42" are one key. */
export type KeyPart = string | number | bigint | boolean
/**
 * A key of one part, or the parts of a key in the order of its definition. Compared as PostgreSQL's text of the key: of a numeric
 * that keeps its zeros ("1.50"), a date or a uuid, give that text.
 */
export type Key = KeyPart | readonly KeyPart[]

/** The bytes of a key. Throws USAGE for what can be no key, SHAPE_MISMATCH when the index's keys have another number of parts. */
export function keyBytes(key: Key, index: OpenIndex): Buffer {
  const parts: readonly KeyPart[] = Array.isArray(key) ? key : [key as KeyPart]
  if (index.keyParts !== 0 && parts.length !== index.keyParts) {
    const { dataset, index: name, tag } = index.where
    throw new SnapflipError(
      'SHAPE_MISMATCH',
      `A key of ${name} in ${dataset} (${tag}) has ${index.keyParts} part${index.keyParts === 1 ? '' : 's'}, found ${parts.length}. Give the parts as a list, in the order of the definition.`,
      {
        dataset,
        index: name,
        tag: tag ?? null,
        declared: `${parts.length} key parts`,
        found: `${index.keyParts} key parts`,
      },
    )
  }
  return encodeKey(parts.length === 1 ? [partText(parts[0] as KeyPart)] : parts.map(partText))
}

/** The bytes of several keys, as `keyBytes`. */
export function keysBytes(keys: readonly Key[], index: OpenIndex): Buffer[] {
  // A string has parts too; without types nobody would see that each of them was taken for a key.
  if (Array.isArray(keys)) return keys.map((key) => keyBytes(key, index))
  throw new SnapflipError('USAGE', `Keys are given as a list, found ${keys === null ? 'null' : typeof keys}.`)
}

function partText(part: KeyPart): string {
  if (typeof part === 'string') {
    // A lone surrogate would be encoded as U+FFFD, and a zero byte stands between parts: either finds the entry of another key.
    if (!part.isWellFormed()) throw notAKey('a string with a lone surrogate')
    if (part.includes('\0')) throw notAKey('a string with a zero byte, which PostgreSQL text cannot hold')
    return part
  }
  if (typeof part === 'number') {
    // Beyond this a number is not the one that was written; PostgreSQL's text of it has all digits.
    if (Number.isInteger(part) && !Number.isSafeInteger(part)) throw notAKey('an integer beyond 2^53; use a bigint')
    // There float8 goes over to an exponent and numeric does not, and neither as JavaScript does: the key would be missed.
    if (Number.isFinite(part) && !Number.isInteger(part) && !hasOneText(Math.abs(part)))
      throw notAKey(`${part}; give its text, as PostgreSQL writes it`)
    return String(part)
  }
  if (typeof part === 'bigint' || typeof part === 'boolean') return String(part)
  throw notAKey(part === null ? 'null' : typeof part)
}

function hasOneText(fraction: number): boolean {
  return fraction >= 1e-4 && fraction < 1e15
}

function notAKey(found: string): SnapflipError {
  return new SnapflipError('USAGE', `A key part is a string, number, bigint or boolean; found ${found}.`, { found })
}
