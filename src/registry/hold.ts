import type pg from 'pg'
import type { Hold } from '../../schemas/pointer.ts'
import { activeHold } from './active-hold.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Pauses the dataset's refreshes. A hold that is already there gives way to this one, as in the pointer; the same one again
 * (by, reason and time): nothing happens, though somebody has lifted it since.
 *
 * @param at when it began, ISO; now unless given.
 * @param yields to a hold that is there already: a person's is not replaced.
 * @returns the hold as the pointer carries it, and the one that it replaces.
 */
export async function hold(
  db: Db,
  {
    dataset,
    by,
    reason,
    at,
    yields = false,
  }: { dataset: string; by: string; reason: string; at?: string | undefined; yields?: boolean },
): Promise<{ hold: Hold; replaced: Hold | null }> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const wanted: Hold = { by, reason, at: at ?? new Date().toISOString() }
    const before = await activeHold(client, dataset)
    if (await wasPut(client, dataset, wanted)) return { hold: wanted, replaced: null }
    if (yields && before !== null) return { hold: before, replaced: null }
    await putHold(client, dataset, wanted)
    const replaces = before === null ? {} : { replaces: { ...before } }
    await record(client, { dataset, actor: by, kind: 'hold', detail: { reason, at: wanted.at, ...replaces } })
    return { hold: wanted, replaced: before }
  })
}

/** An attempt whose reply was lost asks again, after a person may have lifted it. */
async function wasPut(client: pg.ClientBase, dataset: string, { by, reason, at }: Hold): Promise<boolean> {
  const { rows } = await client.query(
    'select from snapflip.dataset_holds where dataset = $1 and by = $2 and reason = $3 and since = $4',
    [dataset, by, reason, at],
  )
  return rows.length > 0
}

/** The change alone, in a transaction that holds the lock of the dataset's row. False: it was there already. */
export async function putHold(client: pg.ClientBase, dataset: string, wanted: Hold): Promise<boolean> {
  const now = await activeHold(client, dataset)
  if (now !== null) {
    if (now.by === wanted.by && now.reason === wanted.reason && Date.parse(now.at) === Date.parse(wanted.at))
      return false
    await liftHold(client, dataset, wanted.by, 'replaced by another hold')
  }
  await client.query('insert into snapflip.dataset_holds (dataset, by, reason, since) values ($1, $2, $3, $4)', [
    dataset,
    wanted.by,
    wanted.reason,
    wanted.at,
  ])
  return true
}

/** Returns the hold that was lifted; null: there was none. */
export async function liftHold(
  client: pg.ClientBase,
  dataset: string,
  by: string,
  reason: string,
): Promise<Hold | null> {
  const hold = await activeHold(client, dataset)
  if (hold !== null) await client.query(LIFT, [dataset, by, reason])
  return hold
}

const LIFT = `
  update snapflip.dataset_holds
     set lifted_at = clock_timestamp(), lifted_by = $2, lifted_reason = $3
   where dataset = $1 and lifted_at is null`
