import { createHash } from 'node:crypto'
import type { ClientBase } from 'pg'
import type { IndexDefinition, TableIndex } from '../../schemas/config.ts'
import { columnNamed, type Probed, probe } from './expression.ts'
import { leavesOf, type TableFacts } from './facts.ts'
import { translate } from './failure.ts'
import { entriesOf, leafGroups, quoted, tableItem } from './projection.ts'
import { messageOf, Refusal } from './refusal.ts'
import { beginPinned } from './session.ts'
import type { EventsSource, Source, SqlValue, TableSource, TypedColumn } from './source.ts'

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
  return new Definition(client, new Refusal(dataset, index), definition).resolve()
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

class Definition {
  readonly #client: ClientBase
  readonly #refusal: Refusal
  readonly #definition: TableIndex

  constructor(client: ClientBase, refusal: Refusal, definition: TableIndex) {
    this.#client = client
    this.#refusal = refusal
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
      throw translate(error, `Checking ${this.#refusal}`, 'POSTGRES_FAILED')
    }
  }

  async #locate(): Promise<number> {
    const { from } = this.#definition
    const { rows } = await this.#client
      .query<{ relid: string | null }>('select to_regclass($1)::oid as relid', [from])
      .catch((error: unknown) =>
        this.#refusal.because(
          `from: ${from} does not read as a table's name (${messageOf(error)}).`,
          'Write schema.table, quoted where PostgreSQL would need it.',
        ),
      )
    const relid = rows[0]?.relid
    if (relid == null)
      this.#refusal.because(
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
      this.#refusal.because('order is for many: true.', 'Remove order, or make it a many index.')
    const value = await this.#value(table)

    const source = {
      kind: 'table',
      ...this.#refusal.ids,
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
      this.#refusal.because(`from: ${this.#definition.from} is not a table or view.`, 'Name a table or view.')
    return table
  }

  async #readable(table: TableFacts, captured: boolean): Promise<void> {
    const { name } = table
    if (captured && OWN_AND_SYSTEM.test(name)) {
      this.#refusal.because(
        `from: the changes of ${name} cannot be captured: the table belongs to snapflip or to PostgreSQL itself.`,
        'Name a table of the application, or set capture: "none".',
      )
    }
    if (captured && table.kind !== 'r' && table.kind !== 'p') {
      this.#refusal.because(
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
        this.#refusal.because(
          `from: the changes of ${leaf.name} cannot be captured: it is ${kind}.`,
          'Make it an ordinary logged table, or set capture: "none".',
        )
      }
    }
    const casts = await this.#client.query<{ type: string }>(
      `select c.reltype::regtype::text as type from pg_cast k join pg_class c on c.reltype = k.casttarget
       where k.castsource = 'text'::regtype and c.oid = any ($1::oid[])`,
      [captured ? table.members.map(({ relid }) => relid) : []],
    )
    for (const { type } of casts.rows) {
      this.#refusal.because(
        `from: there is a cast from text to ${type}, which would read captured rows in place of PostgreSQL's own.`,
        'Drop the cast and use a function, or set capture: "none".',
      )
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
      this.#refusal.missing(
        `expected role ${row.role} to have TEMPORARY on database ${row.database}, where a temporary view checks each expression. Run: grant temporary on database ${row.database} to ${quoted(row.role)}`,
      )
    }
    if (row?.may === false) {
      this.#refusal.missing(
        `expected role ${row.role} to have SELECT on ${name}. Run: grant select on ${name} to ${quoted(row.role)}`,
        { table: name },
      )
    }
    // row_security = off makes a read fail that would be filtered; row_security_active does not look at the setting.
    if (row?.filtered === true) {
      this.#refusal.missing(
        `row security hides rows of ${name} from role ${row.role}; a version would miss them. Build as the table's owner or a role with BYPASSRLS.`,
        { table: name },
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
        this.#refusal.because(
          `value: ${table.name} has no column ${item}; it has ${known}.`,
          'Correct the name; an expression stands alone, not in a list.',
        )
      }
      return name
    })
    const twice = names.find((name, n) => names.indexOf(name) !== n)
    if (twice !== undefined) this.#refusal.because(`value: column ${twice} is listed twice.`, 'List it once.')
    const types = names.map((name) => [name, table.columns.find(([column]) => column === name)?.[1]])
    return { sql: { columns: names.map(quoted) }, fingerprint: types }
  }

  #probe(field: string, expression: string, table: TableFacts, isCondition = false): Promise<Probed> {
    return probe(this.#client, this.#refusal, { field, expression, table, isCondition })
  }

  #orderSql({ sql, type }: Probed): string {
    const cast = ORDERED_TYPES[type.replace(/\([\d,-]+\)/, '')]
    if (cast === undefined) {
      this.#refusal.because(
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
        .catch((error: unknown) => this.#refusal.said('the definition does not work over a captured row:', error))
    }
  }
}

const KINDS: Readonly<Record<TableFacts['kind'], string>> = {
  r: 'table',
  p: 'partitioned table',
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
}

/** One part as text; several joined by a zero byte. A null part makes the key null. */
function keySql(parts: readonly string[]): string {
  if (parts.length === 1) return `(${parts[0]})::text`
  return `(${parts.map((part) => `convert_to((${part})::text, 'UTF8')`).join(` || '\\x00'::bytea || `)})`
}

function fingerprint(parts: unknown): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32)
}
