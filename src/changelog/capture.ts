import pRetry from 'p-retry'
import type { ClientBase } from 'pg'
import type { Watermark } from '../../schemas/manifest.ts'
import { SnapflipError } from '../core/errors.ts'
import {
  captureFault,
  factsDiffer,
  formerOf,
  leavesOf,
  ROW_TRIGGER,
  type TableFacts,
  TRUNCATE_TRIGGER,
} from './facts.ts'
import { sqlState, translate } from './failure.ts'
import { inTransaction } from './session.ts'
import { capturedTables, type Source } from './source.ts'
import { factsSince, gapIn } from './window.ts'

/**
 * Capture: one row trigger a table (cloned by PostgreSQL to its partitions, those of tomorrow included) and a TRUNCATE trigger on each table
 * that holds rows, whatever number of indexes reads it.
 *
 * CREATE TRIGGER waits for every open transaction that wrote to the table, and all writers wait behind it; so it waits shortly and often.
 */
const LOCK_TIMEOUT = '2s'
const ATTACH_TRIES = 20
const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 5_000

export interface Attached {
  readonly table: string
  /** false: it was already as it must be, and was left alone. */
  readonly changed: boolean
}

/** Makes capture of the sources' tables as it must be. Leaves a table alone where it is; whoever gets `changed` needs a full build. */
export async function attach(
  client: ClientBase,
  sources: readonly Source[],
  signal?: AbortSignal,
): Promise<Attached[]> {
  const attached: Attached[] = []
  for (const { relid, name } of capturedTables(sources)) {
    const changed = await retryLocks(`Attaching capture to ${name}`, signal, () => attachTable(client, relid))
    attached.push({ table: name, changed })
  }
  return attached
}

async function attachTable(client: ClientBase, relid: number): Promise<boolean> {
  return inShortTransaction(client, async () => {
    const table = await factsOf(client, relid)
    if (table === undefined) return false
    const broken = captureFault(table) !== null
    if (broken) {
      for (const statement of await dropStatements(
        client,
        table.members.map((member) => member.relid),
      ))
        await client.query(statement)
      for (const statement of createStatements(table)) await client.query(statement)
    }
    await rememberTable(client, table)
    return broken
  })
}

/** Writes only what is new: a worker whose capture is fine needs no right to write here. */
async function rememberTable(client: ClientBase, { relid, name, members }: TableFacts): Promise<void> {
  const relids = members.map((member) => member.relid)
  const known = await client.query<{ relid: string; same: boolean }>(
    `select relid::text, relid = $1 and name = $2 and members = $3::oid[] as same from snapflip.captures where relid = $1 or name = $2`,
    [relid, name, relids],
  )
  if (known.rows.length === 1 && known.rows[0]?.same) return
  await client.query('delete from snapflip.captures where name = $1 and relid <> $2', [name, relid])
  await client.query(
    `insert into snapflip.captures (relid, name, members) values ($1, $2, $3::oid[])
     on conflict (relid) do update set name = excluded.name, members = excluded.members`,
    [relid, name, relids],
  )
}

/** Names in the facts are quoted by PostgreSQL. Enabled always: also under session_replication_role = replica, where logical replication applies. */
function createStatements(table: TableFacts): string[] {
  const rowTables = table.kind === 'p' ? [table.name] : leavesOf(table).map((leaf) => leaf.name)
  const rows = rowTables.flatMap((name) => [
    `create trigger ${ROW_TRIGGER} after insert or update or delete on ${name} for each row execute function snapflip.capture()`,
    `alter table ${name} enable always trigger ${ROW_TRIGGER}`,
  ])
  const truncates = leavesOf(table).flatMap(({ name }) => [
    `create trigger ${TRUNCATE_TRIGGER} after truncate on ${name} for each statement execute function snapflip.capture_truncate()`,
    `alter table ${name} enable always trigger ${TRUNCATE_TRIGGER}`,
  ])
  return [...rows, ...truncates]
}

/** Drops what calls the capture functions, by whatever name; cloned triggers go with their parent's. */
async function dropStatements(client: ClientBase, relids: readonly number[]): Promise<string[]> {
  const { rows } = await client.query<{ statement: string }>(
    `select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) as statement
     from pg_trigger t join pg_proc p on p.oid = t.tgfoid
     where p.pronamespace = 'snapflip'::regnamespace and p.proname in ('capture', 'capture_truncate') and t.tgrelid = any ($1::oid[]) and t.tgparentid = 0`,
    [relids],
  )
  return rows.map((row) => row.statement)
}

/**
 * Takes capture off the tables (as `captures` knows them: `schema.table`) and deletes what was captured of them. Tables that are gone are
 * forgotten. Returns the names of those that were detached.
 */
export async function detach(client: ClientBase, tables: readonly string[], signal?: AbortSignal): Promise<string[]> {
  const detached: string[] = []
  for (const name of tables) {
    const found = await retryLocks(`Detaching capture from ${name}`, signal, () => detachTable(client, name))
    if (found) detached.push(name)
  }
  return detached
}

/** Pages of 8 kB that one transaction looks through: short enough to hold up nobody's vacuum. */
const DELETE_PAGES = 2_000
const DELETE_CAPTURED = `
  delete from snapflip.changelog
   where ctid >= format('(%s,0)', $2::bigint)::tid and ctid < format('(%s,0)', $3::bigint)::tid and relid = any ($1::oid[])`

/** Once through the table, whatever it holds: its triggers are gone, so nothing of these comes after. */
async function deleteCaptured(client: ClientBase, relids: readonly number[]): Promise<void> {
  const { rows } = await client.query<{ pages: string }>(
    `select pg_relation_size('snapflip.changelog') / current_setting('block_size')::bigint as pages`,
  )
  for (let page = 0; page < Number(rows[0]?.pages); page += DELETE_PAGES)
    await client.query(DELETE_CAPTURED, [relids, page, page + DELETE_PAGES])
}

async function detachTable(client: ClientBase, name: string): Promise<boolean> {
  const { own, relids } = await inShortTransaction(client, async () => {
    // By name too: in a restored database the table has another oid than was remembered.
    const { rows } = await client.query<{ relid: string; members: string[]; named: number | null }>(
      `select relid::text, array_to_json(members) as members, to_regclass($1)::oid as named
       from snapflip.captures c where c.name = $1 or c.relid = to_regclass($1)`,
      [name],
    )
    const touched = new Set(rows.flatMap((row) => [row.relid, ...row.members].map(Number)))
    for (const relid of rows.flatMap((row) => [Number(row.relid), row.named ?? 0]))
      for (const member of (await factsOf(client, relid))?.members ?? []) touched.add(member.relid)
    for (const statement of await dropStatements(client, [...touched])) await client.query(statement)
    return { own: rows.map((row) => row.relid), relids: [...touched] }
  })
  // The table's lock is gone by now: deleting what was captured may take long. It is forgotten last, so that what fails is found again.
  await deleteCaptured(client, relids)
  const forgotten = await client.query('delete from snapflip.captures where relid = any ($1::oid[])', [own])
  return (forgotten.rowCount ?? 0) > 0
}

/** Every table that capture is attached to. */
export async function listCaptures(client: ClientBase): Promise<readonly { name: string; gone: boolean }[]> {
  const { rows } = await client.query<{ name: string; gone: boolean }>(
    'select c.name, not exists (select from pg_class r where r.oid = c.relid) as gone from snapflip.captures c order by c.name',
  )
  return rows
}

export type Preflight =
  | { readonly table: string; readonly ok: true }
  | { readonly table: string; readonly ok: false; readonly reason: string }

/**
 * Whether the changes of each captured table since the parent's watermark are all there and readable; else the reason for a full build. What it
 * finds stays true: whatever changes later changes the facts for good, and is found when the window is read.
 */
export async function preflight(
  client: ClientBase,
  sources: readonly Source[],
  from: Watermark,
  to: string,
): Promise<Preflight[]> {
  try {
    const { before, now } = await factsSince(client, from, sources)
    const results: Preflight[] = []
    for (const { relid, name } of capturedTables(sources)) {
      const table = now.find((candidate) => candidate.relid === relid)
      const reason =
        table === undefined
          ? `${name} is gone`
          : (factsDiffer(formerOf(before, table), table) ?? (await gapIn(client, table, { from, to })))
      results.push(reason === null ? { table: name, ok: true } : { table: name, ok: false, reason })
    }
    return results
  } catch (error) {
    throw translate(error, 'Looking at capture', 'POSTGRES_FAILED')
  }
}

async function factsOf(client: ClientBase, relid: number): Promise<TableFacts | undefined> {
  const { rows } = await client.query<{ facts: TableFacts[] }>('select snapflip.facts(array[$1::oid]) as facts', [
    relid,
  ])
  return rows[0]?.facts[0]
}

async function inShortTransaction<T>(client: ClientBase, body: () => Promise<T>): Promise<T> {
  const begin = `begin isolation level read committed, read write; set local lock_timeout = '${LOCK_TIMEOUT}'; set local search_path = pg_catalog, pg_temp`
  return inTransaction(client, () => client.query(begin), body)
}

async function retryLocks<T>(what: string, signal: AbortSignal | undefined, body: () => Promise<T>): Promise<T> {
  const retryable = (error: unknown) => ['55P03', '40P01'].includes(sqlState(error) ?? '')
  try {
    return await pRetry(body, {
      retries: ATTACH_TRIES - 1,
      minTimeout: PAUSE_MS_MIN,
      maxTimeout: PAUSE_MS_MAX,
      randomize: true,
      ...(signal === undefined ? {} : { signal }),
      shouldRetry: ({ error }) => retryable(error),
    })
  } catch (error) {
    if (!retryable(error)) throw translate(error, what, 'POSTGRES_FAILED')
    throw new SnapflipError(
      'POSTGRES_FAILED',
      `${what}: a long transaction holds the table; gave up after ${ATTACH_TRIES} tries of ${LOCK_TIMEOUT}. Try again when it has ended.`,
      {},
      error,
    )
  }
}
