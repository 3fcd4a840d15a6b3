import type { Pool } from 'pg'
import { nameSchema } from '../../schemas/name.ts'

export interface FoundTable {
  schema: string
  name: string
  /** As it is written in SQL. */
  from: string
  columns: string[]
  /** In the primary key's order; empty without one. */
  key: string[]
}

/** Ordinary and partitioned tables of people, in their order of name; partitions go with their root. */
export async function findTables(pool: Pool): Promise<FoundTable[]> {
  const { rows } = await pool.query<FoundTable>(
    `select n.nspname as schema, c.relname as name, format('%I.%I', n.nspname, c.relname) as from,
            (select array_agg(a.attname::text order by a.attnum) from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
            coalesce((select array_agg(a.attname::text order by array_position(i.indkey::int2[], a.attnum))
               from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
              where i.indrelid = c.oid and i.indisprimary), '{}') as key
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p'
        and n.nspname not in ('snapflip', 'pg_catalog', 'information_schema') and n.nspname !~ '^pg_'
        and exists (select from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
        and has_table_privilege(c.oid, 'select')
      order by n.nspname, c.relname`,
  )
  return rows
}

/** Of the definition that `definitionText` writes: name → table, in their order. */
export function indexesOf(tables: readonly FoundTable[]): Map<string, FoundTable> {
  const named = new Map<string, FoundTable>()
  for (const table of tables) named.set(indexName(table, named), table)
  return named
}

/** The definition file for these tables, as a start to edit; what was left out is listed in it. */
export function definitionText(
  { store, dataset }: { store: string; dataset: string },
  tables: ReadonlyMap<string, FoundTable>,
  left: readonly FoundTable[],
): string {
  const indexes = [...tables].map(([name, table]) => `        ${property(name)}: ${indexText(table)},`)
  if (indexes.length === 0)
    indexes.push(
      '        // No table with a primary key was found. For example:',
      "        // products: { from: 'public.products', key: 'id', value: ['name'] },",
    )
  const notes = left.map(
    ({ from, key }) =>
      `        // ${inLine(from)}: ${key.length === 0 ? 'has no primary key; name a key that is unique' : 'left out, there are many'}`,
  )
  return `import { defineConfig } from 'snapflip/config'

export default defineConfig({
  database: process.env.DATABASE_URL,
  temporal: { address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' },
  // redis://host:6379/0, s3://bucket/prefix?region=…, file:./folder. Credentials come from the environment.
  stores: { main: ${quote(withoutCredentials(store))} },
  datasets: {
    ${property(dataset)}: {
      stores: ['main'],
      indexes: {
${[...indexes, ...notes].join('\n')}
      },
    },
  },
})
`
}

function indexText({ from, columns, key }: FoundTable): string {
  const keys = key.length === 1 ? quote(key[0] ?? '') : `[${key.map(quote).join(', ')}]`
  return `{ from: ${quote(from)}, key: ${keys}, value: [${columns.map(quote).join(', ')}] }`
}

/** The table's name, with its schema where two tables share it, in the letters that index names may have. */
function indexName({ schema, name }: FoundTable, taken: ReadonlyMap<string, unknown>): string {
  const plain = (text: string) =>
    text
      .replace(/[^A-Za-z0-9_-]/g, '_')
      .replace(/^[^A-Za-z]/, 't$&')
      .slice(0, 63)
  for (let attempt = 0; ; attempt++) {
    const wanted = attempt === 0 ? plain(name) : plain(`${schema}_${name}${attempt === 1 ? '' : `_${attempt}`}`)
    if (!taken.has(wanted) && nameSchema.safeParse(wanted).success) return wanted
  }
}

const property = (name: string) => (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ? name : quote(name))
const quote = (text: string) => `'${inLine(text.replace(/[\\']/g, '\\$&'))}'`

/** Names may hold line breaks, which end a comment: what follows would be code that the next command runs. */
function inLine(text: string): string {
  return text.replace(
    /[\n\r\u2028\u2029]/g,
    (lineBreak) => `\\u${lineBreak.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** A file that is committed holds no password. */
function withoutCredentials(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@]*@/i, '$1')
}
