import pg from 'pg'
import { isCertificateFault } from '../core/certificate-fault.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'

/** SQLSTATEs that say that the registry's schema, a table, a column or a function is not there. */
const MISSING = new Set(['3F000', '42P01', '42703', '42883'])

/** Classes and codes of a server that is not there (yet, any more, or for this user). */
const UNREACHABLE = /^(08|28|57P0[123]|25P03|53300|3D000)/

/** Classes of a statement that breaks a rule of the data or cannot be run at all: again, it would fail again. */
const WRONG = /^(23|42)/

/** What Node and pg say of a connection that could not be made, or broke. */
const BROKEN =
  /^(Connection terminated|Client (has encountered|was closed)|timeout (expired|exceeded)|Query read timeout|The server does not support SSL)/

const UP = 'Check `database` in the definition, and that the server is up.'
const CERTIFICATE =
  "Nobody vouches for the server's certificate: name the file of its authority in the URL of `database`, with `?sslmode=verify-full&sslrootcert=`."

/**
 * What a failed statement or connection means. Keeps PostgreSQL's own message, never its detail: that can hold rows.
 * What is not PostgreSQL's passes through unchanged.
 *
 * @param address where a connection was attempted: then whatever went wrong, it could not be made.
 */
export function postgresFailure(error: unknown, address?: { host: string; port: number }): unknown {
  if (isSnapflipError(error)) return error
  const code = error instanceof pg.DatabaseError ? (error.code ?? '') : ''
  const message = messageOf(error)
  if (MISSING.has(code)) return notMigrated(`answers: ${message}`, error)
  if (UNREACHABLE.test(code) || (code === '' && (address !== undefined || isBroken(error)))) {
    const where = address === undefined ? '' : ` at ${address.host}:${address.port}`
    return new SnapflipError(
      'POSTGRES_UNREACHABLE',
      `Expected PostgreSQL to answer${where}, found: ${message}. ${isCertificateFault(error) ? CERTIFICATE : UP}`,
      address === undefined ? {} : { host: address.host, port: address.port },
      error,
    )
  }
  if (code === '') return error
  if (code === '42501') {
    return new SnapflipError(
      'PRIVILEGE_MISSING',
      `Expected the rights that a role of snapflip needs, found: ${message}. \`snapflip doctor --grants\` prints them.`,
      { sqlstate: code },
      error,
    )
  }
  return new SnapflipError(
    WRONG.test(code) ? 'INTERNAL' : 'POSTGRES_FAILED',
    `PostgreSQL refused a statement (${code}): ${message}.`,
    { sqlstate: code },
    error,
  )
}

export function notMigrated(found: string, cause?: unknown): SnapflipError {
  return new SnapflipError(
    'REGISTRY_NOT_MIGRATED',
    `Expected the tables of this snapflip in schema snapflip, found a database that ${found}. Run \`snapflip migrate\`.`,
    {},
    cause,
  )
}

function isBroken(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isBroken)
  if (!(error instanceof Error)) return false
  return 'syscall' in error || BROKEN.test(error.message)
}

/** Node puts the addresses it tried into an AggregateError without a message of its own. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ')
  return error instanceof Error ? error.message : String(error)
}

/** It was waited for as long as `query_timeout` says: the connection may answer never. */
export function isLate(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout'
}
