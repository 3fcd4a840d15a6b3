import { isDeepStrictEqual } from 'node:util'
import { SnapflipError } from '../src/core/errors.ts'

/** Each turn means that another person decided otherwise meanwhile. */
const TURNS = 8

/**
 * Writes into the store what a person decided, once the registry has it. Another person may decide between the two: then what is in the registry by
 * now is written after it, so that whichever of them comes to the store last, the store says what the registry says.
 */
export async function asRegistered<T>(
  decided: T,
  { read, write }: { read: () => Promise<T>; write: (wanted: T, before: T) => Promise<void> },
): Promise<void> {
  let before = decided
  let wanted = decided
  for (let turn = 1; turn <= TURNS; turn++) {
    await write(wanted, before)
    before = wanted
    wanted = await read()
    if (isDeepStrictEqual(wanted, before)) return
  }
  throw new SnapflipError(
    'CONFLICT',
    `Expected to get a turn, found that others decided otherwise ${TURNS} times in a row. Try again.`,
  )
}
