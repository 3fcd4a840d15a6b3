import { type Db, select } from './transaction.ts'

/** The newest refresh that neither failed nor was skipped or cancelled, which says nothing of the next; null: there is none. */
export async function lastGoodRefresh(db: Db, dataset: string): Promise<string | null> {
  const rows = await select<{ id: string }>(
    db,
    `select id from snapflip.refresh_runs
      where dataset = $1 and closed_at is not null and status not in ('FAILED', 'SKIPPED', 'CANCELLED')
      order by opened_at desc limit 1`,
    [dataset],
  )
  return rows[0]?.id ?? null
}
