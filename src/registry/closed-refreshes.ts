import { type Db, select } from './transaction.ts'

/** Those of the refreshes that are closed. */
export async function closedRefreshes(db: Db, refreshIds: readonly string[]): Promise<string[]> {
  const rows = await select<{ id: string }>(
    db,
    'select id from snapflip.refresh_runs where id = any ($1::uuid[]) and closed_at is not null',
    [refreshIds],
  )
  return rows.map((row) => row.id)
}
