import type { Location } from '../../schemas/manifest.ts'

/** A piece of one pack to fetch in one go, and which of the asked-for objects it holds. */
export interface Range {
  generation: string
  pack: number
  start: number
  /** Exclusive. */
  end: number
  /** Positions in the list of locations. */
  wanted: number[]
}

/**
 * Joins objects of the same pack that lie near each other into ranges: a gap of up to `gapMax` bytes is read along, since another
 * request costs more; no range grows beyond `rangeMax` bytes, unless one object alone does.
 */
export function planRanges(locations: readonly Location[], limits: { gapMax: number; rangeMax: number }): Range[] {
  const order = locations.map((_, index) => index)
  const at = (index: number) => locations[index] as Location
  order.sort((a, b) => {
    const [left, right] = [at(a), at(b)]
    if (left.generation !== right.generation) return left.generation < right.generation ? -1 : 1
    return left.pack - right.pack || left.offset - right.offset
  })
  const ranges: Range[] = []
  let range: Range | undefined
  for (const index of order) {
    const { generation, pack, offset, length } = at(index)
    const end = offset + length
    if (
      range !== undefined &&
      range.generation === generation &&
      range.pack === pack &&
      offset - range.end <= limits.gapMax &&
      end - range.start <= limits.rangeMax
    ) {
      range.end = Math.max(range.end, end)
      range.wanted.push(index)
    } else {
      range = { generation, pack, start: offset, end, wanted: [index] }
      ranges.push(range)
    }
  }
  return ranges
}

/** Hands out what a range's bytes hold; an object that the bytes do not reach to its end stays null. */
export function cutRange(
  range: Range,
  bytes: Uint8Array,
  locations: readonly Location[],
  into: Array<Uint8Array | null>,
): void {
  for (const index of range.wanted) {
    const { offset, length } = locations[index] as Location
    const from = offset - range.start
    if (from + length <= bytes.length) into[index] = bytes.subarray(from, from + length)
  }
}

/** Runs `work` over all items, at most `width` at a time. The first failure stops the rest and is thrown. */
export async function forEachBounded<T>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < items.length) {
      const item = items[next++] as T
      try {
        await work(item)
      } catch (error) {
        next = items.length
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane))
}
