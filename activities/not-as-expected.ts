import { type ErrorDetails, SnapflipError } from '../src/core/errors.ts'

/** Refuses what a person asked for, as things stand now; another time they may be as it takes. Nothing was changed. */
export function notAsExpected(expected: string, found: string, todo: string, details: ErrorDetails): SnapflipError {
  return new SnapflipError('CONFLICT', `Expected ${expected}, found ${found}. ${todo}`, details)
}
