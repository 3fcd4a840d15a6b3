import type { ClientBase } from 'pg'

/**
 * The settings under which rows become entries. The capture functions pin those that decide how a value is written as text
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
  statement_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  lock_timeout: '60s',
  // Windows are small: compiling their plan took longer than running it.
  jit: 'off',
  synchronous_commit: 'on',
}

/** SET takes no snapshot, so the pins may come before the first statement of a repeatable-read transaction. */
const PINS = Object.entries(SETTINGS)
  .map(([name, value]) => `set local ${name} = ${name === 'search_path' ? value : `'${value}'`}`)
  .join('; ')

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

/** Runs `body` in a pinned transaction and commits; rolls back when it throws. */
export async function inPinned<T>(
  client: ClientBase,
  isolation: Isolation,
  access: 'read only' | 'read write',
  lockNames: readonly string[],
  body: () => Promise<T>,
): Promise<T> {
  try {
    await beginPinned(client, isolation, access, lockNames)
    const result = await body()
    await client.query('commit')
    return result
  } catch (error) {
    // The connection itself may be gone; what went wrong first is what the caller must see.
    await client.query('rollback').catch(() => undefined)
    throw error
  }
}
