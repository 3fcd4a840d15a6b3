import { type Db, select } from './transaction.ts'

/** How long ago, by the database's clock, the last of what has no outcome yet was intended, a flip or a canary of the dataset; null: nothing is open. */
export async function sinceIntended(db: Db, dataset: string): Promise<number | null> {
  const rows = await select<{ ageMs: number | null }>(
    db,
    `select (extract(epoch from clock_timestamp() - max(intended_at)) * 1000)::double precision as "ageMs"
       from (
         select intended_at from snapflip.flip_intents where dataset = $1 and outcome is null
          union all
         select intended_at from snapflip.canaries where dataset = $1 and outcome is null
       ) as open`,
    [dataset],
  )
  return rows[0]?.ageMs ?? null
}
