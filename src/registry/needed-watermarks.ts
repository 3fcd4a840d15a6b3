import { type Db, select } from './transaction.ts'

/**
 * Ids of the watermarks that a later change window may start at: those of all versions that are not gone, in every dataset, and all that
 * were taken since the oldest open refresh began (its version's, and those of the ranges it has read).
 */
export async function neededWatermarks(db: Db): Promise<string[]> {
  const rows = await select<{ id: string }>(
    db,
    `select watermark ->> 'id' as id from snapflip.versions where watermark is not null and state not in ('retired', 'swept', 'rejected')
     union
     select id::text from snapflip.watermarks
      where at >= (select min(opened_at) from snapflip.refreshes where closed_at is null)`,
  )
  return rows.map((row) => row.id)
}
