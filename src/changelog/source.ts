import { SnapflipError } from '../core/errors.ts'
import { factsDiffer, type TableFacts } from './facts.ts'

/** A definition that PostgreSQL has checked: all SQL that reads it is made from this. Plain data. See `resolveSource`. */
export type Source = TableSource | EventsSource

export interface TableSource {
  readonly kind: 'table'
  readonly dataset: string
  readonly index: string
  readonly captured: boolean
  readonly table: TableFacts
  /** SQL over the row, under the table's name as alias: text (one part) or bytea (several parts, joined by a zero byte). */
  readonly key: string
  readonly keyParts: number
  /** SQL giving the JSON text. */
  readonly value: SqlValue
  /** SQL giving bytea, for `many`. */
  readonly order: string | null
  readonly where: string | null
  /** Quoted, in index order; null where ranges of it cannot be read (no primary key, a view, inheritance children). */
  readonly primaryKey: readonly TypedColumn[] | null
  /** The key's columns, when an index leads on them: single keys can be looked up. */
  readonly lookup: readonly TypedColumn[] | null
  /** Changes with every expression, their types, and the user functions they call. */
  readonly shape: string
}

/** `columns`: a compact JSON object of these columns (quoted) in this order. */
export type SqlValue = { readonly columns: readonly string[] } | { readonly expression: string }

export interface TypedColumn {
  readonly column: string
  readonly type: string
}

export interface EventsSource {
  readonly kind: 'events'
  readonly dataset: string
  readonly index: string
  readonly shape: string
}

export function tablesOf(sources: readonly Source[]): readonly TableFacts[] {
  const byRelid = new Map<number, TableFacts>()
  for (const source of sources) if (source.kind === 'table') byRelid.set(source.table.relid, source.table)
  return [...byRelid.values()]
}

export function capturedTables(sources: readonly Source[]): readonly TableFacts[] {
  return tablesOf(sources.filter((source) => source.kind === 'table' && source.captured))
}

/** LOCK TABLE knows tables and views only. */
export function lockNames(sources: readonly Source[]): readonly string[] {
  return tablesOf(sources)
    .filter((table) => table.kind !== 'm' && table.kind !== 'f')
    .map((table) => table.name)
}

/** Throws SOURCE_CHANGED when a table is not what `resolveSource` saw; what is read must fit the SQL made from that. */
export function expectAsResolved(sources: readonly Source[], facts: readonly TableFacts[]): void {
  for (const table of tablesOf(sources)) {
    const now = facts.find((candidate) => candidate.relid === table.relid)
    const same =
      now !== undefined && now.name === table.name && JSON.stringify(shapeOf(now)) === JSON.stringify(shapeOf(table))
    if (same) continue
    const reason =
      now === undefined
        ? `${table.name} is gone or another table`
        : (factsDiffer(table, now) ?? `${table.name} changed`)
    throw new SnapflipError(
      'SOURCE_CHANGED',
      `Expected ${table.name} as it was when the build began; found that ${reason}. Start the build again.`,
      {
        table: table.name,
        reason,
      },
    )
  }
}

function shapeOf(table: TableFacts): unknown {
  return [table.columns, table.types, table.members.map((member) => [member.relid, member.columns])]
}
