import { type Db, select } from './transaction.ts'

/** A refresh that was opened within the last so many milliseconds and came to an end of its own, whatever its gates found; null: there is none. */
export async function refreshedSince(
  db: Db,
  { dataset, withinMs }: { dataset: string; withinMs: number },
): Promise<string | null> {
  const rows = await select<{ id: string }>(
    db,
    `select id from snapflip.refresh_runs
      where dataset = $1 and opened_at >= clock_timestamp() - make_interval(secs => $2::double precision / 1000)
        and status in ('FLIPPED', 'NOTHING_NEW', 'HELD', 'REJECTED', 'KEPT')
      order by opened_at desc limit 1`,
    [dataset, withinMs],
  )
  return rows[0]?.id ?? null
}
