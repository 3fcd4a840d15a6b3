import pg, { type ClientBase } from 'pg'
import type { Config } from '../../schemas/config.ts'
import { translate } from './failure.ts'

/**
 * The settings under which rows become entries, whatever the role was given (ALTER ROLE … SET). The capture functions pin those that decide how a value is written as text
 * (schemas/migrations/0002_changelog.sql); here stand the same ones, those that decide how text is read and how an expression is
 * parsed, and what a long read needs. Without them the same row gives different bytes in a full and an incremental build.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  DateStyle: 'ISO, YMD',
  TimeZone: 'UTC',
  IntervalStyle: 'postgres',
  extra_float_digits: '1',
  bytea_output: 'hex',
  lc_monetary: 'C',
  xmloption: 'content',
  xmlbinary: 'base64',
  quote_all_identifiers: 'off',
  search_path: 'pg_catalog, pg_temp',
  client_encoding: 'UTF8',
  array_nulls: 'on',
  standard_conforming_strings: 'on',
  transform_null_equals: 'off',
  timezone_abbreviations: 'Default',
  lc_numeric: 'C',
  lc_time: 'C',
  // A build that may see only some rows must fail, not shrink.
  row_security: 'off',
  lock_timeout: '60s',
  // Windows are small: compiling their plan took longer than running it.
  jit: 'off',
  synchronous_commit: 'on',
}

/**
 * What a role may be given that would cut a build off, or keep it from writing: for the whole session, since it waits between its transactions
 * too. Those that a server does not have (transaction_timeout came with 17) are left out.
 */
const UNCUT: Readonly<Record<string, string>> = {
  statement_timeout: '0',
  transaction_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  default_transaction_read_only: 'off',
  default_transaction_isolation: 'read committed',
}

/** SET takes no snapshot, so the pins may come before the first statement of a repeatable-read transaction. */
const PINS = Object.entries(SETTINGS)
  .map(([name, value]) => `set local ${name} = ${name === 'search_path' ? value : `'${value}'`}`)
  .join('; ')

/** Longer than any healthy server needs. */
const CONNECT_TIMEOUT_MS = 10_000

/** A connection for a build, which no time-out of its role ends; every transaction on it pins the settings anew. The caller ends it. Throws POSTGRES_UNREACHABLE. */
export async function connectBuilder(database: Config['database']): Promise<pg.Client> {
  const given = typeof database === 'string' ? { connectionString: database } : database
  const client = new pg.Client({
    application_name: 'snapflip builder',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    ...given,
  })
  // What breaks in use fails its statement; without a listener it would end the process.
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(
      `select set_config(s.name, u.value, false)
       from unnest($1::text[], $2::text[]) as u (name, value) join pg_catalog.pg_settings s using (name)`,
      [Object.keys(UNCUT), Object.values(UNCUT)],
    )
    return client
  } catch (error) {
    throw translate(error, 'Connecting to PostgreSQL', 'POSTGRES_FAILED')
  }
}

export type Isolation = 'read committed' | 'repeatable read'

/** Begins a transaction with the settings of a build. `lockNames` (quoted by PostgreSQL) are locked against DDL and TRUNCATE before any snapshot is taken. */
export async function beginPinned(
  client: ClientBase,
  isolation: Isolation,
  access: 'read only' | 'read write',
  lockNames: readonly string[] = [],
): Promise<void> {
  await client.query(`begin isolation level ${isolation}, ${access}; ${PINS}`)
  if (lockNames.length > 0) await client.query(`lock table ${lockNames.join(', ')} in access share mode`)
}

/** Runs `body` in a transaction that only reads, and tells it the snapshot it reads at: for gates, patrols and counts. Nothing can be built upon it. */
export async function inSnapshot<T>(
  client: ClientBase,
  lockNames: readonly string[],
  body: (snapshot: string) => Promise<T>,
): Promise<T> {
  return inPinned(client, 'repeatable read', 'read only', lockNames, async () => {
    const { rows } = await client.query<{ snapshot: string }>('select pg_current_snapshot()::text as snapshot')
    return body(rows[0]?.snapshot ?? '')
  })
}

/** Runs `body` in a pinned transaction and commits; rolls back when it throws. */
export async function inPinned<T>(
  client: ClientBase,
  isolation: Isolation,
  access: 'read only' | 'read write',
  lockNames: readonly string[],
  body: () => Promise<T>,
): Promise<T> {
  return inTransaction(client, () => beginPinned(client, isolation, access, lockNames), body)
}

/** Runs `body` in the transaction that `begin` opens, and commits; rolls back when either throws. */
export async function inTransaction<T>(
  client: ClientBase,
  begin: () => Promise<unknown>,
  body: () => Promise<T>,
): Promise<T> {
  try {
    await begin()
    const result = await body()
    await client.query('commit')
    return result
  } catch (error) {
    // The connection itself may be gone; what went wrong first is what the caller must see.
    await client.query('rollback').catch(() => undefined)
    throw error
  }
}
