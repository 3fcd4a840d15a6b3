import { ERRORS, type ErrorCode, isSnapflipError, type SnapflipError } from '../core/errors.ts'
import { failureCode } from '../core/failure.ts'

/** A word that starts like a URL with a user and a password in it. */
const CREDENTIALS = /\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi

/**
 * Prints what went wrong and returns the exit code: one message on stderr, or with --json one document on stdout. A stack only when asked
 * for. Credentials of URLs that reached a foreign message are taken out: the last line of defence, not the first.
 */
export function printError(error: unknown, { json, verbose }: { json: boolean; verbose: boolean }): number {
  const code = codeOf(error)
  const message = hideCredentials(isSnapflipError(error) ? error.message : foreignMessage(error, code))
  const details = isSnapflipError(error) ? error.details : {}
  if (json) process.stdout.write(`${hideCredentials(JSON.stringify({ code, message, details }, null, 2))}\n`)
  else process.stderr.write(`snapflip: ${code}: ${message}\n`)
  if (verbose) process.stderr.write(`${hideCredentials(stackOf(error))}\n`)
  return ERRORS[code].exit
}

export function hideCredentials(text: string): string {
  return text.replace(CREDENTIALS, '$1…@')
}

function codeOf(error: unknown): ErrorCode {
  return isSnapflipError(error) ? error.code : (failureCode(error) ?? 'INTERNAL')
}

function foreignMessage(error: unknown, code: ErrorCode): string {
  const message = error instanceof Error ? error.message : String(error)
  if (code !== 'INTERNAL') return message
  return `${message || 'an error without a message'}. Expected no such error: please report it with the output of --verbose.`
}

function stackOf(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
  const cause = error instanceof Error ? (error as SnapflipError).cause : undefined
  return cause === undefined ? stack : `${stack}\ncaused by ${stackOf(cause)}`
}
