import type { DatasetDefinition } from '../../schemas/config.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Makes the definition the dataset's current one: a new row when it differs from the last, otherwise nothing.
 *
 * @returns the current definition's number, and whether this call made it.
 */
export async function applyDefinition(
  db: Db,
  { dataset, definition, by }: { dataset: string; definition: DatasetDefinition; by: string | null },
): Promise<{ number: number; changed: boolean }> {
  return transaction(db, async (client) => {
    await client.query('insert into snapflip.datasets (name) values ($1) on conflict do nothing', [dataset])
    await lockDataset(client, dataset)
    const { rows } = await client.query<{ number: number; digest: string }>(APPLY, [
      dataset,
      JSON.stringify(definition),
      by,
    ])
    const made = rows[0]
    if (made === undefined) return { number: await lastNumber(client, dataset), changed: false }
    const { number, digest } = made
    await record(client, { dataset, actor: by, kind: 'definition.applied', detail: { number, digest } })
    return { number, changed: true }
  })
}

/** jsonb has one text for equal values, whatever the order of keys in the file. Relies on the lock of the dataset's row. */
const APPLY = `
  with last as (
    select number, body from snapflip.definitions where dataset = $1 order by number desc limit 1
  )
  insert into snapflip.definitions (dataset, number, body, digest, applied_by)
  select $1, coalesce((select number from last), 0) + 1, $2::jsonb,
         encode(sha256(convert_to($2::jsonb::text, 'UTF8')), 'hex'), coalesce($3, session_user)
   where (select body from last) is distinct from $2::jsonb
  returning number, digest`

async function lastNumber(db: Db, dataset: string): Promise<number> {
  const { rows } = await db.query<{ number: number }>(
    'select max(number) as number from snapflip.definitions where dataset = $1',
    [dataset],
  )
  return rows[0]?.number ?? 0
}
