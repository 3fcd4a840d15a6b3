import { SnapflipError } from '../core/errors.ts'

/** Anything that runs a parameterised statement: a client or pool of pg, or what an ORM hands out. */
export interface Queryable {
  query(text: string, values: unknown[]): Promise<unknown>
}

/** Kept as its text, as readers name it. */
export type EventKeyPart = string | number | bigint

/**
 * Appends an event to an `events` index, in the transaction that `client` is in: readers get the value with the version that holds that
 * transaction. null deletes the key. Of two transactions that append to one key the second waits for the first; append to several keys in a
 * fixed order, or they may deadlock as with rows. Throws USAGE for a value that has no JSON, and for what can be no key.
 */
export async function append(
  client: Queryable,
  dataset: string,
  index: string,
  key: EventKeyPart | readonly EventKeyPart[],
  value: unknown,
): Promise<void> {
  const parts = Array.isArray(key) ? key.map(keyText) : [keyText(key)]
  const json = value === null ? null : jsonText(value)
  await client.query('select snapflip.append($1::text, $2::text, $3::text[], $4::text)', [dataset, index, parts, json])
}

/** The text that a reader makes of the same part. */
function keyText(part: unknown): string {
  const whole = Number.isSafeInteger(part) || typeof part === 'bigint'
  if (whole || (typeof part === 'string' && part.isWellFormed())) return String(part)
  const found = typeof part === 'number' ? String(part) : typeof part === 'string' ? 'a lone surrogate' : kindOf(part)
  throw new SnapflipError(
    'USAGE',
    `append: a part of a key is a string or a whole number (beyond 2^53 a bigint), found ${found}. Write it as the string that readers will ask for.`,
    { found },
  )
}

function jsonText(value: unknown): string {
  // Of a bigint JSON.stringify itself throws.
  const json = typeof value === 'bigint' ? undefined : JSON.stringify(value)
  if (json !== undefined) return json
  const found = kindOf(value)
  throw new SnapflipError(
    'USAGE',
    `append: expected a value that JSON can hold, found ${found}. Give null to delete the key.`,
    { found },
  )
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`
}
