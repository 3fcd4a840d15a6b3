import { createHash } from 'node:crypto'
import type { ClientBase } from 'pg'
import type { IndexDefinition, TableIndex } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'
import { leavesOf, type TableFacts } from './facts.ts'
import { sqlState, translate } from './failure.ts'
import { entriesOf, leafGroups, quoted, tableItem } from './projection.ts'
import { beginPinned } from './session.ts'
import type { EventsSource, Source, SqlValue, TableSource, TypedColumn } from './source.ts'
import { STABLE_ALLOWED } from './stable-functions.ts'

/**
 * Checks an index's definition against the database and returns what all SQL for it is made from. PostgreSQL itself parses the expressions: each
 * becomes a column of a temporary view in a transaction that is rolled back, and the view's stored tree says which functions it calls and
 * whether it looks beyond its row. Nothing stays behind.
 *
 * `from` is looked up with the connection's own search_path; expressions are evaluated with search_path pg_catalog, so functions and
 * operators of other schemas are written with their schema. Throws DEFINITION_INVALID, PRIVILEGE_MISSING.
 */
export async function resolveSource(
  client: ClientBase,
  dataset: string,
  index: string,
  definition: IndexDefinition,
): Promise<Source> {
  if ('events' in definition) return resolveEvents(dataset, index)
  return new Definition(client, dataset, index, definition).resolve()
}

function resolveEvents(dataset: string, index: string): EventsSource {
  return { kind: 'events', dataset, index, shape: fingerprint(['events']) }
}

/** Types whose order can be kept in bytes; the functions are in the migration. */
const ORDERED_TYPES: Readonly<Record<string, string>> = {
  smallint: '',
  integer: '',
  bigint: '',
  date: '',
  'timestamp without time zone': '',
  'timestamp with time zone': '',
  'double precision': '',
  real: '',
  numeric: '',
  text: '',
  'character varying': '::text',
  uuid: '',
  boolean: '',
  bytea: '',
}

/** A trigger on what capture itself writes to would call itself, and fail every write of every captured table. */
const OWN_AND_SYSTEM = /^(snapflip|pg_catalog|information_schema)\./

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

class Definition {
  readonly #client: ClientBase
  readonly #dataset: string
  readonly #index: string
  readonly #definition: TableIndex

  constructor(client: ClientBase, dataset: string, index: string, definition: TableIndex) {
    this.#client = client
    this.#dataset = dataset
    this.#index = index
    this.#definition = definition
  }

  async resolve(): Promise<TableSource> {
    try {
      const relid = await this.#locate()
      await beginPinned(this.#client, 'read committed', 'read write')
      try {
        return await this.#check(relid)
      } finally {
        await this.#client.query('rollback')
      }
    } catch (error) {
      throw translate(error, `Checking index ${this.#index} of ${this.#dataset}`, 'POSTGRES_FAILED')
    }
  }

  async #locate(): Promise<number> {
    const { from } = this.#definition
    const { rows } = await this.#client
      .query<{ relid: string | null }>('select to_regclass($1)::oid as relid', [from])
      .catch((error: unknown) =>
        this.#refuse(
          `from: ${from} does not read as a table's name (${said(error)}).`,
          'Write schema.table, quoted where PostgreSQL would need it.',
        ),
      )
    const relid = rows[0]?.relid
    if (relid == null)
      this.#refuse(
        `from: expected a table or view ${from}, found none.`,
        'Create it, or correct the name (schema.table).',
      )
    return Number(relid)
  }

  async #check(relid: number): Promise<TableSource> {
    const definition = this.#definition
    const table = await this.#table(relid)
    const captured = definition.capture === 'triggers'
    await this.#readable(table, captured)

    const keys = await this.#each('key', [definition.key].flat(), table)
    const where = definition.where === undefined ? null : await this.#probe('where', definition.where, table, true)
    const order = definition.order === undefined ? null : await this.#probe('order', definition.order, table)
    if (order !== null && !definition.many)
      this.#refuse('order is for many: true.', 'Remove order, or make it a many index.')
    const value = await this.#value(table)

    const source = {
      kind: 'table',
      dataset: this.#dataset,
      index: this.#index,
      captured,
      table,
      key: keySql(keys.map((key) => key.sql)),
      keyParts: keys.length,
      value: value.sql,
      // Within one key values without an order stand in the order of their bytes.
      order: definition.many ? (order === null ? `''::bytea` : this.#orderSql(order)) : null,
      where: where?.sql ?? null,
      primaryKey: await this.#primaryKey(table),
      lookup: await this.#lookup(table, keys),
      shape: fingerprint([
        keys.map(({ sql, type, calls }) => [sql, type, calls]),
        value.fingerprint,
        where && [where.sql, where.calls],
        order && [order.sql, order.type, order.calls],
        definition.many,
      ]),
    } satisfies TableSource
    await this.#runs(source)
    return source
  }

  async #table(relid: number): Promise<TableFacts> {
    const { rows } = await this.#client.query<{ facts: TableFacts[] }>(
      'select snapflip.facts(array[$1::oid]) as facts',
      [relid],
    )
    const table = rows[0]?.facts[0]
    if (table === undefined || !'rpvmf'.includes(table.kind))
      this.#refuse(`from: ${this.#definition.from} is not a table or view.`, 'Name a table or view.')
    return table
  }

  async #readable(table: TableFacts, captured: boolean): Promise<void> {
    const { name } = table
    if (captured && OWN_AND_SYSTEM.test(name)) {
      this.#refuse(
        `from: the changes of ${name} cannot be captured: the table belongs to snapflip or to PostgreSQL itself.`,
        'Name a table of the application, or set capture: "none".',
      )
    }
    if (captured && table.kind !== 'r' && table.kind !== 'p') {
      this.#refuse(
        `from: the changes of ${name} cannot be captured: it is a ${KINDS[table.kind]}.`,
        'Set capture: "none" to rebuild it in full each time.',
      )
    }
    for (const leaf of captured ? leavesOf(table) : []) {
      if (leaf.kind !== 'r' || leaf.persistence !== 'p') {
        const kind =
          leaf.kind === 'f'
            ? 'a foreign table'
            : leaf.persistence === 'u'
              ? 'unlogged: a crash would empty it without a trace'
              : 'temporary'
        this.#refuse(
          `from: the changes of ${leaf.name} cannot be captured: it is ${kind}.`,
          'Make it an ordinary logged table, or set capture: "none".',
        )
      }
    }
    const { rows } = await this.#client.query<{
      may: boolean
      filtered: boolean
      temporary: boolean
      role: string
      database: string
    }>(
      `select has_table_privilege($1::oid, 'select') as may, row_security_active($1::oid) as filtered, current_user as role,
         has_database_privilege(current_database(), 'temporary') as temporary, quote_ident(current_database()) as database`,
      [table.relid],
    )
    const row = rows[0]
    if (row?.temporary === false) {
      throw new SnapflipError(
        'PRIVILEGE_MISSING',
        `${this.#name()}: expected role ${row.role} to have TEMPORARY on database ${row.database}, where a temporary view checks each expression. Run: grant temporary on database ${row.database} to ${quoted(row.role)}`,
        this.#ids(),
      )
    }
    if (row?.may === false) {
      throw new SnapflipError(
        'PRIVILEGE_MISSING',
        `${this.#name()}: expected role ${row.role} to have SELECT on ${name}. Run: grant select on ${name} to ${quoted(row.role)}`,
        {
          ...this.#ids(),
          table: name,
        },
      )
    }
    // row_security = off makes a read fail that would be filtered; row_security_active does not look at the setting.
    if (row?.filtered === true) {
      throw new SnapflipError(
        'PRIVILEGE_MISSING',
        `${this.#name()}: row security hides rows of ${name} from role ${row.role}; a version would miss them. Build as the table's owner or a role with BYPASSRLS.`,
        { ...this.#ids(), table: name },
      )
    }
  }

  async #each(field: string, expressions: readonly string[], table: TableFacts): Promise<Probed[]> {
    const probed: Probed[] = []
    for (const expression of expressions) probed.push(await this.#probe(field, expression, table))
    return probed
  }

  async #value(table: TableFacts): Promise<{ sql: SqlValue; fingerprint: unknown }> {
    const { value } = this.#definition
    if (typeof value === 'string') {
      const { sql, type, calls } = await this.#probe('value', value, table)
      return { sql: { expression: sql }, fingerprint: [sql, type, calls] }
    }
    const names = value.map((item) => {
      const name = columnNamed(item, table)
      if (name === undefined) {
        const known = table.columns.map(([column]) => column).join(', ')
        this.#refuse(
          `value: ${table.name} has no column ${item}; it has ${known}.`,
          'Correct the name; an expression stands alone, not in a list.',
        )
      }
      return name
    })
    const twice = names.find((name, n) => names.indexOf(name) !== n)
    if (twice !== undefined) this.#refuse(`value: column ${twice} is listed twice.`, 'List it once.')
    const types = names.map((name) => [name, table.columns.find(([column]) => column === name)?.[1]])
    return { sql: { columns: names.map(quoted) }, fingerprint: types }
  }

  /** Has PostgreSQL parse one expression over the table's row, and refuses it when it depends on anything else. */
  async #probe(field: string, expression: string, table: TableFacts, isCondition = false): Promise<Probed> {
    const named = columnNamed(expression, table)
    const sql = named === undefined ? expression : `${table.alias}.${quoted(named)}`
    const what = `${field}: ${expression}`
    // Alone in parentheses in a place where nothing else fits, so that it is one expression and not the end of another.
    const body = isCondition
      ? `select 1 as probe from ${tableItem(table)} where (${sql}\n)`
      : `select (${sql}\n) as probe from ${tableItem(table)}`
    await this.#client
      .query(`create temporary view _snapflip_probe as ${body}`)
      .catch((error: unknown) => this.#refuseSaid(`${what}:`, error))
    const { rows } = await this.#client.query<{ type: string; tree: string }>(
      `select format_type(a.atttypid, a.atttypmod) as type, r.ev_action::text as tree
       from pg_attribute a join pg_rewrite r on r.ev_class = a.attrelid
       where a.attrelid = 'pg_temp._snapflip_probe'::regclass and a.attnum = 1`,
    )
    await this.#client.query('drop view pg_temp._snapflip_probe')
    const { type = '', tree = '' } = rows[0] ?? {}
    for (const [node, found, advice] of FORBIDDEN_NODES)
      if (node.test(tree)) this.#refuse(`${what} uses ${found}.`, advice)
    if (MOMENT_LITERAL.test(sql))
      this.#refuse(
        `${what} has a literal that means the time of the build.`,
        'Write the moment itself, or keep it in the row.',
      )
    const calls = await this.#functions(
      what,
      [...tree.matchAll(FUNCTION_OID)].map((match) => Number(match[1])),
    )
    return { sql: named === undefined ? `(${sql}\n)` : sql, type, calls, column: named }
  }

  /** Refuses functions whose result is not decided by their arguments; returns fingerprints of those that may be redefined. */
  async #functions(what: string, oids: readonly number[]): Promise<readonly string[]> {
    const { rows } = await this.#client.query<{
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
        this.#refuse(
          `${what} calls ${name}, which is volatile.`,
          'The same row must give the same entry: use an immutable function, or keep the result in the row.',
        )
      }
      if (volatility !== 's') continue
      if (!system) {
        this.#refuse(
          `${what} calls ${name}, which is declared stable: it may read tables or settings.`,
          'If its result depends on its arguments alone, declare it immutable (or wrap it in an immutable function); else keep the result in the row.',
        )
      }
      if (!STABLE_ALLOWED.has(label) || (label === 'age' && count === 1)) {
        this.#refuse(
          `${what} calls ${name}, whose result depends on the time, the session or the catalogue.`,
          'The same row must give the same entry whenever it is read.',
        )
      }
    }
    return rows.filter((row) => !row.system).map((row) => `${row.name} ${row.source}`)
  }

  #orderSql({ sql, type }: Probed): string {
    const cast = ORDERED_TYPES[type.replace(/\([\d,-]+\)/, '')]
    if (cast === undefined) {
      this.#refuse(
        `order: the order of type ${type} cannot be kept in bytes.`,
        `Give an expression of one of these types: ${Object.keys(ORDERED_TYPES).join(', ')}; for an interval, extract(epoch from (…)).`,
      )
    }
    return `snapflip.order_bytes((${sql})${cast})`
  }

  /** Ranges of the primary key cover a table when all its rows are under that key: not those of inheritance children. */
  async #primaryKey(table: TableFacts): Promise<readonly TypedColumn[] | null> {
    if (table.kind === 'r' && leavesOf(table).length > 1) return null
    const [columns] = await this.#indexes(table, 'i.indisprimary')
    return columns ?? null
  }

  async #lookup(table: TableFacts, keys: readonly Probed[]): Promise<readonly TypedColumn[] | null> {
    if (keys.some((key) => key.column === undefined)) return null
    const wanted = keys.map((key) => quoted(key.column ?? ''))
    for (const columns of await this.#indexes(table, 'i.indpred is null')) {
      const leading = columns.slice(0, wanted.length)
      if (leading.length === wanted.length && wanted.every((name) => leading.some(({ column }) => column === name))) {
        return wanted.map((name) => leading.find(({ column }) => column === name) as TypedColumn)
      }
    }
    return null
  }

  /** The columns of each valid B-tree index, up to its first expression. */
  async #indexes(table: TableFacts, condition: string): Promise<TypedColumn[][]> {
    const { rows } = await this.#client.query<{ columns: TypedColumn[] }>(
      `select jsonb_agg(jsonb_build_object('column', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by k.n) as columns
       from pg_index i
       join pg_class c on c.oid = i.indexrelid
       join pg_am m on m.oid = c.relam and m.amname = 'btree'
       cross join lateral unnest(i.indkey::int2[]) with ordinality k (attnum, n)
       join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
       where i.indrelid = $1 and i.indisvalid and ${condition} and k.n <= i.indnkeyatts
         and not exists (select from unnest(i.indkey::int2[]) with ordinality e (attnum, n) where e.attnum = 0 and e.n <= k.n)
       group by i.indexrelid order by i.indexrelid`,
      [table.relid],
    )
    return rows.map((row) => row.columns.map(({ column, type }) => ({ column: quoted(column), type })))
  }

  /** Plans the real statements: over the table, and over captured rows of each kind of leaf. */
  async #runs(source: TableSource): Promise<void> {
    const statements = [entriesOf(source, tableItem(source.table))]
    if (source.captured)
      statements.push(...leafGroups(source.table).map((group) => entriesOf(source, group.item('null::text'))))
    for (const statement of statements) {
      await this.#client
        .query(`explain ${statement}`)
        .catch((error: unknown) => this.#refuseSaid('the definition does not work over a captured row:', error))
    }
  }

  #refuseSaid(what: string, error: unknown): never {
    const found = `${what} PostgreSQL says: ${said(error)}.`
    if (sqlState(error) !== '42501') this.#refuse(found, adviceFor(error))
    throw new SnapflipError(
      'PRIVILEGE_MISSING',
      `${this.#name()}: ${found} Grant it to the role that builds; see \`snapflip doctor --grants\`.`,
      this.#ids(),
      error,
    )
  }

  #refuse(found: string, advice: string): never {
    throw new SnapflipError('DEFINITION_INVALID', `${this.#name()}: ${found} ${advice}`, this.#ids())
  }

  #name(): string {
    return `Index ${this.#index} of ${this.#dataset}`
  }

  #ids(): { dataset: string; index: string } {
    return { dataset: this.#dataset, index: this.#index }
  }
}

interface Probed {
  readonly sql: string
  readonly type: string
  readonly calls: readonly string[]
  /** The column, when the expression is just that. */
  readonly column: string | undefined
}

const KINDS: Readonly<Record<TableFacts['kind'], string>> = {
  r: 'table',
  p: 'partitioned table',
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
}

/** A column's exact name, or what PostgreSQL would read the text as when it is a bare or quoted identifier. */
function columnNamed(text: string, table: TableFacts): string | undefined {
  const names = new Set(table.columns.map(([name]) => name))
  if (names.has(text)) return text
  const identifier =
    /^"((?:[^"]|"")+)"$/.exec(text)?.[1]?.replaceAll('""', '"') ??
    (/^[A-Za-z_][\w$]*$/.test(text) ? text.toLowerCase() : undefined)
  return identifier !== undefined && names.has(identifier) ? identifier : undefined
}

/** One part as text; several joined by a zero byte. A null part makes the key null. */
function keySql(parts: readonly string[]): string {
  if (parts.length === 1) return `(${parts[0]})::text`
  return `(${parts.map((part) => `convert_to((${part})::text, 'UTF8')`).join(` || '\\x00'::bytea || `)})`
}

function said(error: unknown): string {
  if (sqlState(error) === undefined) throw error
  return (error as Error).message
}

function adviceFor(error: unknown): string {
  if (/^(42883|42704|42725)$/.test(sqlState(error) ?? '')) {
    return 'Expressions are evaluated with search_path pg_catalog: write functions and types as schema.name, operators as operator(schema.+).'
  }
  return 'Correct the expression: it may use the columns of its own row.'
}

function fingerprint(parts: unknown): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32)
}
