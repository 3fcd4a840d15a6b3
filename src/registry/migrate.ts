import { readdir } from 'node:fs/promises'
import { basename } from 'node:path'
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
