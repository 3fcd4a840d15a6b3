import { type Db, select } from './transaction.ts'

/** How long ago, by the database's clock, the last of the dataset's flips that have no outcome yet was intended; null: none is open. */
export async function sinceIntended(db: Db, dataset: string): Promise<number | null> {
  const rows = await select<{ ageMs: number | null }>(
    db,
    `select (extract(epoch from clock_timestamp() - max(intended_at)) * 1000)::double precision as "ageMs"
       from snapflip.flip_intents
      where dataset = $1 and outcome is null`,
    [dataset],
  )
  return rows[0]?.ageMs ?? null
}
