import type { ClientBase } from 'pg'
import { translate } from './failure.ts'
import { literal, tableItem } from './projection.ts'
import { inPinned } from './session.ts'
import type { Source, TableSource } from './source.ts'

/**
 * A full build in many transactions, for tables too big for one, resumable between them:
 *
 *     ranges = planRanges(...)                                          once; keeps in JSON
 *     for each range not yet read:
 *       S = inWatermark(client, [source], 'chunk', () => scanSource(client, source, range).read(runs))     counts once committed
 *     W = takeWatermark(...)                                            after the last
 *     for each range: windowSource(client, source, { from: S, to: W }, { range }).read(runs)
 *
 * A range's entries at S, less those of rows before and plus those of rows after each change in (S, W] whose primary key lies in the range, are
 * its entries at W: exact and in any order, also for a row that moves between ranges (it leaves one and enters the other) and one that changes
 * back and forth, where "the last image by primary key" would have to know which is last.
 */

/** Primary keys in [from, to), compared as PostgreSQL compares them; null is unbounded. Bounds are text. */
export interface Range {
  readonly from: readonly string[] | null
  readonly to: readonly string[] | null
}

/** More ranges than this would only cost: they are made longer instead. */
const RANGES_MAX = 100_000

/**
 * Cuts the source into ranges of about `rowsPerRange` rows by walking the primary key's index; one unbounded range where that cannot be done.
 * Rows come and go afterwards; together the ranges hold every possible key.
 */
export async function planRanges(client: ClientBase, source: Source, rowsPerRange: number): Promise<Range[]> {
  if (source.kind !== 'table' || source.primaryKey === null) return [{ from: null, to: null }]
  const { table, primaryKey } = source
  const columns = primaryKey.map(({ column }) => `${table.alias}.${column}`)
  const steps = Math.max(1, Math.trunc(rowsPerRange))
  try {
    return await inPinned(client, 'repeatable read', 'read only', [table.name], async () => {
      const ranges: Range[] = []
      let from: readonly string[] | null = null
      while (ranges.length < RANGES_MAX) {
        const condition: string | null = rangeCondition(source, { from, to: null })
        const { rows }: { rows: { bound: string[] }[] } = await client.query<{ bound: string[] }>(
          `select array[${columns.map((column) => `${column}::text`).join(', ')}] as bound from ${tableItem(table)}
           ${condition === null ? '' : `where ${condition}`} order by ${columns.join(', ')} offset ${steps} limit 1`,
        )
        const to = rows[0]?.bound ?? null
        ranges.push({ from, to })
        if (to === null) return ranges
        from = to
      }
      return [...ranges, { from, to: null }]
    })
  } catch (error) {
    throw translate(error, `Cutting ${table.name} into ranges`, 'SOURCE_CHANGED')
  }
}

/** SQL over the row that is true in the range: a row comparison, which uses the primary key's index. */
export function rangeCondition({ table, primaryKey }: TableSource, range: Range | null): string | null {
  if (range === null || primaryKey === null) return null
  const columns = `row(${primaryKey.map(({ column }) => `${table.alias}.${column}`).join(', ')})`
  const bound = (values: readonly string[]) =>
    `row(${primaryKey.map(({ type }, n) => `${literal(values[n] ?? '')}::${type}`).join(', ')})`
  const lower = range.from === null ? null : `${columns} >= ${bound(range.from)}`
  const upper = range.to === null ? null : `${columns} < ${bound(range.to)}`
  return [lower, upper].filter((part) => part !== null).join(' and ') || null
}
