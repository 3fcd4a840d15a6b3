import pg from 'pg'
import { type ColumnFacts, leavesOf, type TableFacts } from './facts.ts'
import type { TableSource } from './source.ts'

/**
 * The SQL that turns rows into entries: the same text over the table and over captured rows, so that a full and an incremental build give
 * the same bytes. User expressions are SQL by design; identifiers come quoted from PostgreSQL (`TableFacts`) or from `quoted`.
 */

export const literal = pg.escapeLiteral
/** Column names come from the catalogue. */
export const quoted = pg.escapeIdentifier

/**
 * `select key[, order], value` of the rows that `from` (an item under the table's alias) gives. User expressions stand where nothing but that item
 * is in scope: beside the columns of the value, a bare column would be ambiguous. PostgreSQL flattens the rest.
 */
export function entriesOf(source: TableSource, from: string, condition: string | null = null): string {
  const { key, order, value, table } = source
  const keyed = `select ${key} as _snapflip_key${order === null ? '' : `, coalesce(${order}, '') as _snapflip_order`}`
  const rows = `from ${from} where ${rowsOf(source, condition)}`
  if ('expression' in value)
    return `${keyed}, coalesce(to_json(${value.expression}\n)::text, 'null') as _snapflip_value ${rows}`
  const columns = value.columns.map((column, n) => `${table.alias}.${column} as _snapflip_${n}`)
  const named = value.columns.map((column, n) => `_snapflip_r._snapflip_${n} as ${column}`)
  return `select _snapflip_key${order === null ? '' : ', _snapflip_order'}, row_to_json(_snapflip_o)::text as _snapflip_value
    from (${keyed}, ${columns.join(', ')} ${rows}) as _snapflip_r cross join lateral (select ${named.join(', ')}) as _snapflip_o`
}

/** The rows that are in the index. */
export function rowsOf(source: TableSource, condition: string | null = null): string {
  return [source.where === null ? null : `(${source.where}\n)`, condition, `(${source.key}) is not null`]
    .filter((part) => part !== null)
    .join(' and ')
}

/** The table itself as an item of FROM. */
export function tableItem(table: TableFacts): string {
  return `${table.name} as ${table.alias}`
}

/** Leaves whose captured text reads as the same row type. */
export interface LeafGroup {
  readonly relids: readonly number[]
  /** Given SQL for a captured row's text: an item of FROM with the table's columns and row type under the table's alias. */
  readonly item: (text: string) => string
}

/**
 * A captured text reads as the row type of the table that was written; a partition may order its columns differently, or have more of them
 * (inheritance), so its columns are put into the root's row type by name. Virtual generated columns are null in a trigger and are computed here.
 */
export function leafGroups(table: TableFacts): readonly LeafGroup[] {
  const groups = new Map<string, { relids: number[]; type: string; columns: readonly ColumnFacts[] }>()
  for (const leaf of leavesOf(table)) {
    const columns = leaf.columns ?? table.columns
    const shape = leaf.columns === null ? '' : JSON.stringify(columns)
    const group = groups.get(shape)
    if (group === undefined)
      groups.set(shape, { relids: [leaf.relid], type: leaf.columns === null ? table.type : leaf.type, columns })
    else group.relids.push(leaf.relid)
  }
  return [...groups.entries()].map(([shape, { relids, type, columns }]) => {
    const plain = shape === '' && columns.every(([, , expression]) => expression === null)
    const read = (text: string, alias: string) => `unnest(array[${text}::${type}]) as ${alias}`
    const byName = new Map(columns.map((column) => [column[0], column]))
    const fields = table.columns.map(([name]) => {
      const expression = byName.get(name)?.[2]
      return expression ? `(${expression})` : `_snapflip_leaf.${quoted(name)}`
    })
    // A scalar sub-select, so that the leaf's own columns are not in scope beside the root's.
    const byRoot = (text: string) =>
      `(select row(${fields.join(', ')})::${table.type} from ${read(text, '_snapflip_leaf')})`
    const item = (text: string) =>
      plain ? read(text, table.alias) : `unnest(array[${byRoot(text)}]) as ${table.alias}`
    return { relids, item }
  })
}
