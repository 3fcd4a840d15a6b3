import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Pool } from 'pg'
import { SnapflipError } from '../core/errors.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  database?: string
  store: string
  dataset: string
  force?: boolean
}

/** A definition that nobody can read helps nobody; who has more tables names them. */
const TABLES_MAX = 50

interface FoundTable {
  schema: string
  name: string
  /** As it is written in SQL. */
  from: string
  columns: string[]
  /** In the primary key's order; empty without one. */
  key: string[]
}

export function init(program: Command): void {
  verb(program, {
    usage: 'init',
    summary: 'write snapflip.config.ts from the tables in the database, as a start to edit',
    examples: [
      ['snapflip init', 'reads DATABASE_URL'],
      ['snapflip init --dataset shop --store "$REDIS_URL"', 'names the dataset and the store'],
    ],
  })
    .option('--database <url>', 'where to look; without it DATABASE_URL. Never written into the file')
    .option('--store <url>', 'where versions shall be kept, without credentials', 'file:./versions')
    .option('--dataset <name>', 'the name of the dataset', 'shop')
    .option('--force', 'overwrite a definition that is there')
    .action(act<Options>(run))
}

async function run(session: Session, options: Options): Promise<Answer> {
  const file = resolve(options.config ?? 'snapflip.config.ts')
  if (existsSync(file) && options.force !== true) {
    throw new SnapflipError(
      'USAGE',
      `Expected no definition at ${file}, found one. Edit it, or overwrite it with --force.`,
      { file },
    )
  }
  if (!/^[A-Za-z][A-Za-z0-9_-]{0,62}$/.test(options.dataset)) {
    throw new SnapflipError(
      'USAGE',
      `Expected --dataset to be letters, digits, _ and -, starting with a letter, found ${JSON.stringify(options.dataset)}.`,
    )
  }
  const url = options.database ?? process.env.DATABASE_URL
  if (url === undefined || url === '') {
    throw new SnapflipError(
      'USAGE',
      'Expected a PostgreSQL URL in DATABASE_URL or after --database, found neither. Give one: the tables are read from there.',
    )
  }
  const { connectRegistry } = await import('../registry/connect.ts')
  const pool = await connectRegistry(url)
  session.onClose(() => pool.end())
  const tables = await findTables(pool)
  const usable = tables.filter(({ key }) => key.length > 0).slice(0, TABLES_MAX)
  const left = tables.filter((table) => !usable.includes(table))
  const text = definitionText(options, usable, left)
  await writeFile(file, text, { flag: options.force ? 'w' : 'wx' })
  const without = left.filter(({ key }) => key.length === 0).length
  const lines = [
    `Wrote ${file}: dataset ${options.dataset} with ${usable.length} index${usable.length === 1 ? '' : 'es'}.`,
  ]
  if (without > 0)
    lines.push(`Left out, without a primary key: ${without} table${without === 1 ? '' : 's'}, listed in the file.`)
  lines.push('Edit it, then: snapflip plan')
  return {
    json: {
      file,
      dataset: options.dataset,
      indexes: usable.map(({ from }) => from),
      left: left.map(({ from }) => from),
    },
    text: lines.join('\n'),
  }
}

/** Ordinary and partitioned tables of people, in their order of name; partitions go with their root. */
async function findTables(pool: Pool): Promise<FoundTable[]> {
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

function definitionText(
  { store, dataset }: Options,
  tables: readonly FoundTable[],
  left: readonly FoundTable[],
): string {
  const names = new Set<string>()
  const indexes = tables.map((table) => `        ${indexName(table, names)}: ${indexText(table)},`)
  if (indexes.length === 0)
    indexes.push(
      '        // No table with a primary key was found. For example:',
      "        // products: { from: 'public.products', key: 'id', value: ['name'] },",
    )
  const notes = left.map(
    ({ from, key }) =>
      `        // ${from}: ${key.length === 0 ? 'has no primary key; name a key that is unique' : 'left out, there are many'}`,
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
function indexName({ schema, name }: FoundTable, taken: Set<string>): string {
  const plain = (text: string) =>
    text
      .replace(/[^A-Za-z0-9_-]/g, '_')
      .replace(/^[^A-Za-z]/, 't$&')
      .slice(0, 63)
  for (let attempt = 0; ; attempt++) {
    const wanted = attempt === 0 ? plain(name) : plain(`${schema}_${name}${attempt === 1 ? '' : `_${attempt}`}`)
    if (taken.has(wanted)) continue
    taken.add(wanted)
    return property(wanted)
  }
}

const property = (name: string) => (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ? name : quote(name))
const quote = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`

/** A file that is committed holds no password. */
function withoutCredentials(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@]*@/i, '$1')
}
