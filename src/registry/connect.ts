import pg from 'pg'
import type { Config } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'
import { postgresFailure } from './postgres-failure.ts'

/** 15 is the first with `unique nulls not distinct`, and the oldest the changelog is tested on. */
const SERVER_VERSION_MIN = 150_000

/** Longer than any healthy server needs, short enough for a person who waits at a prompt. */
const CONNECT_TIMEOUT_MS = 10_000

/** What pg takes, from `config.database`; values in the URL come first. */
export function poolOptions(database: Config['database']): pg.PoolConfig {
  const given = typeof database === 'string' ? { connectionString: database } : database
  return { application_name: 'snapflip', connectionTimeoutMillis: CONNECT_TIMEOUT_MS, keepAlive: true, ...given }
}

/**
 * Opens a pool on a PostgreSQL that snapflip can work with. The caller ends it.
 *
 * @throws SnapflipError POSTGRES_UNREACHABLE (with host and port, never the password) or POSTGRES_UNSUPPORTED (older
 *   than 15, or a standby).
 */
export async function connectRegistry(database: Config['database'], options: { max?: number } = {}): Promise<pg.Pool> {
  const pool = new pg.Pool({ ...poolOptions(database), ...options })
  // A connection that breaks while nobody uses it is replaced; one that breaks in use fails its statement. Without a
  // listener either would end the process.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  try {
    await checkServer(pool)
    return pool
  } catch (error) {
    await pool.end().catch(() => {})
    throw postgresFailure(error, addressOf(database))
  }
}

async function checkServer(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ number: number; version: string; standby: boolean }>(
    `select current_setting('server_version_num')::integer as number,
            current_setting('server_version') as version,
            pg_is_in_recovery() as standby`,
  )
  const server = rows[0] ?? { number: 0, version: 'unknown', standby: false }
  if (server.number < SERVER_VERSION_MIN) {
    throw new SnapflipError(
      'POSTGRES_UNSUPPORTED',
      `Expected PostgreSQL 15 or newer, found ${server.version}. Use a newer server.`,
      { version: server.version },
    )
  }
  if (server.standby) {
    throw new SnapflipError(
      'POSTGRES_UNSUPPORTED',
      'Expected a primary, found a standby: its snapshots hide open transactions. Point `database` at the primary.',
      { version: server.version, standby: true },
    )
  }
}

/** Where pg would connect to: from the URL, the options, or PGHOST and PGPORT. */
function addressOf(database: Config['database']): { host: string; port: number } {
  const { host, port } = new pg.Client(poolOptions(database))
  return { host, port }
}
