import { type ErrorCode, type ErrorDetails, isSnapflipError, SnapflipError } from '../core/errors.ts'

/** SQLSTATE of an error that PostgreSQL sent, else undefined. */
export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code
  // EPIPE and its like have five letters too, but no digit.
  return typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined
}

/**
 * The typed error for what PostgreSQL said. `onData` is the code for rows or expressions that PostgreSQL cannot evaluate (SQLSTATE class
 * 0A, 22, 23, 42, XX): what they mean depends on what was read. PostgreSQL's own message may quote a row, so it stays in `cause`. What did not come
 * from PostgreSQL or the way to it (a full disk under the sink) is returned as it is.
 */
export function translate(error: unknown, what: string, onData: ErrorCode, details: ErrorDetails = {}): unknown {
  if (isSnapflipError(error)) return error
  const state = sqlState(error)
  if (state === undefined && !isConnectionError(error)) return error
  if (state === undefined || /^(08|57P)/.test(state)) {
    return new SnapflipError(
      'POSTGRES_UNREACHABLE',
      `${what}: the connection to PostgreSQL was lost. It is tried again.`,
      details,
      error,
    )
  }
  const found = { ...details, sqlState: state }
  if (state === '42501') {
    return new SnapflipError(
      'PRIVILEGE_MISSING',
      `${what}: PostgreSQL refused it for lack of a privilege, or because row security would hide rows. Expected a role that may read the whole table; see \`snapflip doctor --grants\`.`,
      found,
      error,
    )
  }
  // A standby refuses to begin a transaction that may write with 0A000, told apart by PostgreSQL's own function.
  const { routine } = error as { routine?: unknown }
  if (state === '25006' || (state === '0A000' && /^call_bool_check_hook$/.test(String(routine)))) {
    return new SnapflipError(
      'POSTGRES_UNSUPPORTED',
      `${what}: expected a primary, found a standby or a read-only server. Give the primary's address.`,
      found,
      error,
    )
  }
  if (
    state === '3F000' ||
    ((state === '42P01' || state === '42883') && /snapflip\./.test(String((error as Error).message)))
  ) {
    return new SnapflipError(
      'REGISTRY_NOT_MIGRATED',
      `${what}: snapflip's tables or functions are missing. Run \`snapflip migrate\`.`,
      found,
      error,
    )
  }
  if (/^(0A|22|23|42|2F|P0|XX)/.test(state)) {
    const advice =
      onData === 'SOURCE_CHANGED' ? 'The next attempt is a full build.' : 'Correct the expression or the row.'
    return new SnapflipError(
      onData,
      `${what}: a row or expression cannot be evaluated (SQLSTATE ${state}). ${advice}`,
      found,
      error,
    )
  }
  return new SnapflipError(
    'POSTGRES_FAILED',
    `${what}: PostgreSQL refused the statement (SQLSTATE ${state}).`,
    found,
    error,
  )
}

/** Errors of the socket, and pg's own about it, which have no code. */
function isConnectionError(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown }
  const socket = /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_|EHOST|ENET)/.test(String(code))
  return (
    socket ||
    /^(Connection terminated|timeout expired|Client (has encountered a connection error|was closed)|This socket)/.test(
      String(message),
    )
  )
}
