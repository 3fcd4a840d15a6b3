import { sha256 } from '../snapshot/hash.ts'
import type { KeyAndValue } from '../snapshot/read.ts'

/** What the entries that were looked at have in each column. */
export interface ColumnShares {
  /** Entries that were looked at, and whether that is all of them. */
  entries: number
  isAll: boolean
  columns: Record<string, { nulls: number; distinct: number }>
}

/** Longer texts are remembered by their hash: what is held in memory is bounded by the sample, not by the values. */
const TEXT_CHARS_MAX = 64

/**
 * Counts nulls and distinct values of columns over entries as they come by. A column is a key of the value's JSON object; one that the object lacks
 * counts as null. Where the value is no object, `whole` names it.
 */
export async function columnShares(
  entries: AsyncIterable<readonly KeyAndValue[]>,
  { columns, whole, count }: { columns: readonly string[]; whole: string | null; count: number },
): Promise<ColumnShares> {
  const tallies = columns.map((column) => ({ column, nulls: 0, seen: new Set<string>() }))
  let taken = 0
  for await (const batch of entries)
    for (const { value } of batch) {
      taken++
      const parsed: unknown = JSON.parse(value.toString('utf8'))
      for (const tally of tallies) {
        const found = contentOf(parsed, tally.column, whole)
        if (found === null) tally.nulls++
        else tally.seen.add(found)
      }
    }
  return {
    entries: taken,
    isAll: taken === count,
    columns: Object.fromEntries(tallies.map(({ column, nulls, seen }) => [column, { nulls, distinct: seen.size }])),
  }
}

/** As JSON, or its hash; null where there is none. */
function contentOf(value: unknown, column: string, whole: string | null): string | null {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  const found = isObject
    ? Object.hasOwn(value, column)
      ? (value as Record<string, unknown>)[column]
      : null
    : column === whole
      ? value
      : null
  if (found === null) return null
  const text = JSON.stringify(found)
  return text.length <= TEXT_CHARS_MAX ? text : sha256(Buffer.from(text)).toString('latin1')
}

export function lookedAt({ entries, isAll }: ColumnShares, count: number): string {
  return isAll ? `all ${entries} entries` : `a sample of ${entries} of ${count} entries`
}
