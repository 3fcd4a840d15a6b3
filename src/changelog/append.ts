/** Anything that runs a parameterised statement: a client or pool of pg, or what an ORM hands out. */
export interface Queryable {
  query(text: string, values: unknown[]): Promise<unknown>
}

/**
 * Appends an event to an `events` index, in the transaction that `client` is in: readers get the value with the version that holds that
 * transaction. `undefined` and null delete the key. Of two transactions that append to one key the second waits for the first; append to
 * several keys in a fixed order, or they may deadlock as with rows.
 */
export async function append(
  client: Queryable,
  dataset: string,
  index: string,
  key: string | readonly string[],
  value: unknown,
): Promise<void> {
  const parts = typeof key === 'string' ? [key] : [...key]
  const json = value === undefined || value === null ? null : JSON.stringify(value)
  await client.query('select snapflip.append($1::text, $2::text, $3::text[], $4::text)', [
    dataset,
    index,
    parts,
    json ?? null,
  ])
}
