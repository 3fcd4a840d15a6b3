import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runner } from 'node-pg-migrate'
import pg from 'pg'
import type { Config } from '../../schemas/config.ts'
import { poolOptions } from './connect.ts'
import { notMigrated, postgresFailure } from './postgres-failure.ts'
import type { Db } from './transaction.ts'

/** Beside this file's package root, from src as from dist/src. */
const MIGRATIONS = fileURLToPath(new URL('../../schemas/migrations', import.meta.url))

/** How long to wait for another process that migrates, and for locks on the tables. */
const LOCK_TIMEOUT_MS = 60_000

/**
 * Brings the registry's tables to this snapflip's. Safe to run twice and by several processes at once: they queue on an
 * advisory lock, and all migrations of a run are one transaction.
 *
 * @returns the names of the migrations that were run; none when there was nothing to do.
 */
export async function migrate(database: Config['database'], log: (line: string) => void = () => {}): Promise<string[]> {
  const client = new pg.Client({ ...poolOptions(database), lock_timeout: LOCK_TIMEOUT_MS })
  client.on('error', () => {}) // the statement that is running tells
  try {
    await client.connect()
    const done = await runner({
      dbClient: client,
      dir: MIGRATIONS,
      direction: 'up',
      migrationsSchema: 'snapflip',
      migrationsTable: 'migrations',
      createMigrationsSchema: true,
      singleTransaction: true,
      advisoryLockMode: 'wait',
      logger: { info: log, warn: log, error: () => {} }, // errors are thrown
    })
    return done.map((migration) => migration.name)
  } catch (error) {
    throw postgresFailure(error, client)
  } finally {
    await client.end().catch(() => {})
  }
}

/** Names of the migrations this snapflip has and the database has not, in order. */
export async function migrationsPending(db: Db): Promise<string[]> {
  const files = (await readdir(MIGRATIONS)).filter((file) => file.endsWith('.sql')).sort()
  const present = await db.query<{ present: boolean }>(
    `select to_regclass('snapflip.migrations') is not null as present`,
  )
  const run = present.rows[0]?.present
    ? await db.query<{ name: string }>('select name from snapflip.migrations')
    : { rows: [] }
  const names = new Set(run.rows.map((row) => row.name))
  return files.map((file) => basename(file, '.sql')).filter((name) => !names.has(name))
}

/** @throws SnapflipError REGISTRY_NOT_MIGRATED, naming the migrations that are missing. */
export async function requireMigrated(db: Db): Promise<void> {
  const pending = await migrationsPending(db).catch((error: unknown) => {
    throw postgresFailure(error)
  })
  if (pending.length > 0) throw notMigrated(`lacks ${pending.join(', ')}`)
}

/**
 * Runs `work` on a connection as if these migrations had been run, and takes everything back: it is all one transaction, and those that `work`
 * begins are savepoints of it. Nothing stays, and nobody else sees anything of it.
 *
 * @throws SnapflipError PRIVILEGE_MISSING where the role may not make tables.
 */
export async function rehearsed<T>(
  client: pg.ClientBase,
  pending: readonly string[],
  work: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  await client.query(`begin; set local lock_timeout = ${LOCK_TIMEOUT_MS}`)
  try {
    for (const name of pending) await client.query(await readFile(join(MIGRATIONS, `${name}.sql`), 'utf8'))
    return await work(withSavepoints(client))
  } catch (error) {
    throw postgresFailure(error)
  } finally {
    await client.query('rollback').catch(() => {}) // what went wrong first is told
  }
}

/** Either end of a transaction goes back to its begin: settings made in it must not reach what follows. */
const SAVEPOINT_ENDS = 'rollback to savepoint rehearsal; release savepoint rehearsal'

function withSavepoints(client: pg.ClientBase): pg.ClientBase {
  const query = (text: unknown, ...rest: unknown[]) => {
    const begun = typeof text === 'string' ? /^begin\b[^;]*;?(.*)$/s.exec(text) : null
    const said =
      begun !== null
        ? `savepoint rehearsal; ${begun[1]}`
        : text === 'commit' || text === 'rollback'
          ? SAVEPOINT_ENDS
          : text
    return (client.query as (...args: unknown[]) => unknown).call(client, said, ...rest)
  }
  return new Proxy(client, {
    get: (target, name) => {
      if (name === 'query') return query
      const member = Reflect.get(target, name, target) as unknown
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}
