import { type ErrorCode, isSnapflipError } from '../core/errors.ts'

/** One thing that was looked at. `todo` says what to do where it is not well. */
export interface Check {
  check: string
  ok: boolean
  found: string
  todo: string | null
  code: ErrorCode | null
}

/** Runs one look; what it throws is what was found. Our errors' messages say what to do themselves. */
export async function checked(name: string, look: () => Promise<string>): Promise<Check> {
  try {
    return { check: name, ok: true, found: await look(), todo: null, code: null }
  } catch (error) {
    return failed(name, error)
  }
}

export function bad(name: string, code: ErrorCode, found: string, todo: string): Check {
  return { check: name, ok: false, found, todo, code }
}

export function good(name: string, found: string): Check {
  return { check: name, ok: true, found, todo: null, code: null }
}

/** What could not even be looked at. */
export function failed(name: string, error: unknown): Check {
  const message = error instanceof Error ? error.message : String(error)
  return { check: name, ok: false, found: message, todo: null, code: isSnapflipError(error) ? error.code : 'INTERNAL' }
}
