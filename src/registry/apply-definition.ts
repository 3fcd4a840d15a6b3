import type { DatasetDefinition } from '../../schemas/config.ts'
import { currentDefinition } from './current-definition.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Makes the definition the dataset's current one: a new row when it differs from the last, otherwise nothing. A detached dataset is so no more.
 *
 * @returns the current definition's number, and whether this call made it.
 */
export async function applyDefinition(
  db: Db,
  { dataset, definition, by }: { dataset: string; definition: DatasetDefinition; by: string | null },
): Promise<{ number: number; changed: boolean }> {
  return transaction(db, async (client) => {
    await client.query('insert into snapflip.datasets (name) values ($1) on conflict do nothing', [dataset])
    const { detachedAt } = await lockDataset(client, dataset)
    if (detachedAt !== null)
      await client.query('update snapflip.datasets set detached_at = null where name = $1', [dataset])
    const { rows } = await client.query<{ number: number; digest: string }>(APPLY, [
      dataset,
      JSON.stringify(definition),
      by,
    ])
    const changed = rows.length > 0
    const now = rows[0] ?? (await currentDefinition(client, dataset))
    if (now === null) throw new Error(`${dataset} has no definition after one was applied`)
    const { number, digest } = now
    if (changed || detachedAt !== null)
      await record(client, { dataset, actor: by, kind: 'definition.applied', detail: { number, digest } })
    return { number, changed }
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
