import { type Db, select } from './transaction.ts'

/** An incident that was told, with what became of it in each sink. */
export interface AlertRow {
  id: string
  kind: string
  dataset: string
  version: string | null
  incident: string
  summary: string
  evidence: Record<string, unknown>
  runbook: string
  raisedAt: Date
  times: number
  lastAt: Date
  /** What became of it in each sink; null while that is not settled. */
  deliveries: Record<string, string | null>
}

/** Alerts that were raised, first or again, from `since` on and before `until`, newest first. */
export async function alertsBetween(
  db: Db,
  { dataset, since, until, limit }: { dataset: string | null; since: Date; until: Date; limit: number },
): Promise<AlertRow[]> {
  return select<AlertRow>(
    db,
    `select id, kind, dataset, version, incident, summary, evidence, runbook, raised_at as "raisedAt", times, last_at as "lastAt",
            coalesce((select jsonb_object_agg(sink, outcome) from snapflip.alert_deliveries where alert = id), '{}') as deliveries
       from snapflip.alerts
      where ($1::text is null or dataset = $1) and raised_at < $3 and last_at >= $2
      order by raised_at desc
      limit $4`,
    [dataset, since, until, limit],
  )
}
