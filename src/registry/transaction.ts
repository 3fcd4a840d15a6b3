import pg from 'pg'
import { isLate, postgresFailure } from './postgres-failure.ts'

/** A pool, or one connection. A connection with an open transaction is joined: then its owner commits or rolls back. */
export type Db = pg.Pool | pg.ClientBase

/**
 * read committed: after waiting for a lock, the next statement sees what the other transaction left. synchronous_commit:
 * an epoch that a crash could take back would be issued twice. Both time-outs bound what a stopped process can block:
 * the dataset's row and the head of the history are held until the transaction ends.
 */
const BEGIN = `
  begin isolation level read committed read write;
  select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') = 'off';
  set local lock_timeout = '30s';
  set local idle_in_transaction_session_timeout = '10s'`

/** Runs `work` as one transaction: all of it, or nothing. */
export async function transaction<T>(db: Db, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
  if (db instanceof pg.Pool) {
    const client = await connected(db)
    try {
      return await begun(client, work)
    } finally {
      // A connection whose transaction could not be ended is not given to anyone else.
      client.release(client.getTransactionStatus() !== 'I')
    }
  }
  if (db.getTransactionStatus() === 'I') return begun(db, work)
  return work(db).catch((error: unknown) => {
    throw postgresFailure(error)
  })
}

/** Runs one statement that changes nothing. */
export async function select<Row extends pg.QueryResultRow>(
  db: Db,
  sql: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  try {
    return (await db.query<Row>(sql, [...values])).rows
  } catch (error) {
    throw postgresFailure(error)
  }
}

async function connected(pool: pg.Pool): Promise<pg.PoolClient> {
  return pool.connect().catch((error: unknown) => {
    throw postgresFailure(error)
  })
}

async function begun<T>(client: pg.ClientBase, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
  try {
    await client.query(BEGIN)
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    // The first failure is the one to tell. Where that was a time-out, this would wait for another: whoever lent the connection closes it.
    if (!isLate(error)) await client.query('rollback').catch(() => {})
    throw postgresFailure(error)
  }
}
