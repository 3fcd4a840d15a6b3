import { type Db, select } from './transaction.ts'

/** What the registry says of a dataset to whoever watches it: numbers alone. */
export interface Standing {
  dataset: string
  /** Null: no version is active. */
  active: { tag: string; sealedAt: Date | null; snapshot: string | null; at: Date | null; isHere: boolean } | null
  onHold: boolean
  /** Of the open refresh; null when none is. */
  openedAt: Date | null
  openFlips: number
  now: Date
}

interface Row {
  dataset: string
  tag: string | null
  sealedAt: Date | null
  snapshot: string | null
  at: Date | null
  isHere: boolean | null
  onHold: boolean
  openedAt: Date | null
  openFlips: number
  now: Date
}

/** Each dataset's standing, by the indexes versions_one_active, holds_one_active, refreshes_one_open and flips_open. */
export async function standings(db: Db, datasets: readonly string[]): Promise<Standing[]> {
  const rows = await select<Row>(
    db,
    `select d.name as dataset, v.tag, v.sealed_at as "sealedAt", v.watermark ->> 'snapshot' as snapshot,
            (v.watermark ->> 'at')::timestamptz as at, v.watermark ->> 'system' = snapflip.system() as "isHere",
            exists (select from snapflip.dataset_holds h where h.dataset = d.name and h.lifted_at is null) as "onHold",
            r.opened_at as "openedAt",
            (select count(*)::integer from snapflip.flip_intents f where f.dataset = d.name and f.outcome is null) as "openFlips",
            clock_timestamp() as now
       from snapflip.datasets d
            left join snapflip.index_versions v on v.dataset = d.name and v.state = 'active'
            left join snapflip.refresh_runs r on r.dataset = d.name and r.closed_at is null
      where d.name = any ($1) and d.detached_at is null`,
    [datasets],
  )
  return rows.map(({ tag, sealedAt, snapshot, at, isHere, ...standing }) => ({
    ...standing,
    active: tag === null ? null : { tag, sealedAt, snapshot, at, isHere: isHere ?? false },
  }))
}
