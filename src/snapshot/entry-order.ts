import { lengthAt } from './block.ts'

/** Bytes compared as PostgreSQL's bytea and memcmp do; a prefix comes first. */
export function compare(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const aLength = aEnd - aStart
  const bLength = bEnd - bStart
  const length = Math.min(aLength, bLength)
  for (let i = 0; i < length; i++) {
    const difference = (a[aStart + i] as number) - (b[bStart + i] as number)
    if (difference !== 0) return difference
  }
  return aLength - bLength
}

/** Compares the field (u32 length, bytes) at `a` with the one at `b`. */
export function compareKeys(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): number {
  return compare(a, aAt + 4, aAt + 4 + lengthAt(a, aAt), b, bAt + 4, bAt + 4 + lengthAt(b, bAt))
}

/** The order of entries in a block: key, order, value, each by its bytes. */
export function compareEntries(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, many: boolean): number {
  let order = compareKeys(a, aAt, b, bAt)
  for (let fields = many ? 2 : 1; order === 0 && fields > 0; fields--) {
    aAt += 4 + lengthAt(a, aAt)
    bAt += 4 + lengthAt(b, bAt)
    order = compareKeys(a, aAt, b, bAt)
  }
  return order
}

/** Where the value's bytes of the entry at `at` begin. */
export function valueAt(bytes: Uint8Array, at: number, many: boolean): number {
  let value = at + 4 + lengthAt(bytes, at)
  if (many) value += 4 + lengthAt(bytes, value)
  return value + 4
}

export function entryEnd(bytes: Uint8Array, at: number, many: boolean): number {
  const value = valueAt(bytes, at, many)
  return value + lengthAt(bytes, value - 4)
}
