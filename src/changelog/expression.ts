import type { ClientBase } from 'pg'
import type { TableFacts } from './facts.ts'
import { quoted, tableItem } from './projection.ts'
import type { Refusal } from './refusal.ts'
import { STABLE_ALLOWED } from './stable-functions.ts'

/** How the stored tree names a function, and how it names what a definition may not contain. */
const FUNCTION_OID = /:(?:funcid|opfuncid|hashfuncid|negfuncid|aggfnoid|winfnoid) (\d+)/g
const FORBIDDEN_NODES: readonly (readonly [node: RegExp, found: string, advice: string])[] = [
  [
    /:hasSubLinks true/,
    'a sub-select',
    'A definition reads only its own row: keep what it needs in the row, or index a view with capture: "none".',
  ],
  [/:hasAggs true/, 'an aggregate', 'A definition reads only its own row; use many: true for several values of a key.'],
  [/:hasWindowFuncs true/, 'a window function', 'A definition reads only its own row.'],
  [
    /:hasTargetSRFs true/,
    'a function that returns a set',
    'Each row gives one entry; index a view with capture: "none" for more.',
  ],
  [
    /\{SQLVALUEFUNCTION /,
    'the time, the user or another property of the session',
    'The same row must give the same entry whenever and by whomever it is read.',
  ],
]
/** A literal that PostgreSQL turns into the time of the build. */
const MOMENT_LITERAL = /'\s*(?:now|today|tomorrow|yesterday|allballs)\b/i

interface Expression {
  /** What it is in the definition. */
  readonly field: string
  readonly expression: string
  readonly table: TableFacts
  readonly isCondition?: boolean
}

/** An expression as PostgreSQL has understood it. */
export interface Probed {
  readonly sql: string
  readonly type: string
  readonly calls: readonly string[]
  /** The column, when the expression is just that. */
  readonly column: string | undefined
}

/** Has PostgreSQL parse one expression over the table's row, and refuses it when it depends on anything else. In a transaction that is rolled back. */
export async function probe(
  client: ClientBase,
  refusal: Refusal,
  { field, expression, table, isCondition = false }: Expression,
): Promise<Probed> {
  const named = columnNamed(expression, table)
  const sql = named === undefined ? expression : `${table.alias}.${quoted(named)}`
  const what = `${field}: ${expression}`
  // Alone in parentheses in a place where nothing else fits, so that it is one expression and not the end of another.
  const body = isCondition
    ? `select 1 as probe from ${tableItem(table)} where (${sql}\n)`
    : `select (${sql}\n) as probe from ${tableItem(table)}`
  await client
    .query(`create temporary view _snapflip_probe as ${body}`)
    .catch((error: unknown) => refusal.said(`${what}:`, error))
  const { rows } = await client.query<{ type: string; tree: string }>(
    `select format_type(a.atttypid, a.atttypmod) as type, r.ev_action::text as tree
     from pg_attribute a join pg_rewrite r on r.ev_class = a.attrelid
     where a.attrelid = 'pg_temp._snapflip_probe'::regclass and a.attnum = 1`,
  )
  await client.query('drop view pg_temp._snapflip_probe')
  const { type = '', tree = '' } = rows[0] ?? {}
  for (const [node, found, advice] of FORBIDDEN_NODES)
    if (node.test(tree)) refusal.because(`${what} uses ${found}.`, advice)
  if (MOMENT_LITERAL.test(sql))
    refusal.because(
      `${what} has a literal that means the time of the build.`,
      'Write the moment itself, or keep it in the row.',
    )
  const calls = await functionsOf(
    client,
    refusal,
    what,
    [...tree.matchAll(FUNCTION_OID)].map((match) => Number(match[1])),
  )
  return { sql: named === undefined ? `(${sql}\n)` : sql, type, calls, column: named }
}

/** Refuses functions whose result is not decided by their arguments; returns fingerprints of those that may be redefined. */
async function functionsOf(
  client: ClientBase,
  refusal: Refusal,
  what: string,
  oids: readonly number[],
): Promise<readonly string[]> {
  const { rows } = await client.query<{
    name: string
    volatility: string
    system: boolean
    label: string
    arguments: number
    source: string
  }>(
    `select p.oid::regprocedure::text as name, p.proname as label, p.provolatile as volatility, p.pronargs as arguments,
       p.pronamespace = 'pg_catalog'::regnamespace as system, md5(concat(p.prosrc, pg_get_function_sqlbody(p.oid), p.probin)) as source
     from pg_proc p where p.oid = any ($1::oid[]) order by 1`,
    [oids],
  )
  for (const { name, volatility, system, label, arguments: count } of rows) {
    if (volatility === 'v') {
      refusal.because(
        `${what} calls ${name}, which is volatile.`,
        'The same row must give the same entry: use an immutable function, or keep the result in the row.',
      )
    }
    if (volatility !== 's') continue
    if (!system) {
      refusal.because(
        `${what} calls ${name}, which is declared stable: it may read tables or settings.`,
        'If its result depends on its arguments alone, declare it immutable (or wrap it in an immutable function); else keep the result in the row.',
      )
    }
    if (!STABLE_ALLOWED.has(label) || (label === 'age' && count === 1)) {
      refusal.because(
        `${what} calls ${name}, whose result depends on the time, the session or the catalogue.`,
        'The same row must give the same entry whenever it is read.',
      )
    }
  }
  return rows.filter((row) => !row.system).map((row) => `${row.name} ${row.source}`)
}

/** A column's exact name, or what PostgreSQL would read the text as when it is a bare or quoted identifier. */
export function columnNamed(text: string, table: TableFacts): string | undefined {
  const names = new Set(table.columns.map(([name]) => name))
  if (names.has(text)) return text
  const identifier =
    /^"((?:[^"]|"")+)"$/.exec(text)?.[1]?.replaceAll('""', '"') ??
    (/^[A-Za-z_][\w$]*$/.test(text) ? text.toLowerCase() : undefined)
  return identifier !== undefined && names.has(identifier) ? identifier : undefined
}
