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

/** More than people were told in any incident they would read up on. */
const ALERTS_MAX = 1_000

/** Alerts that were raised, first or again, from `since` on and before `until`, oldest first. */
export async function alertsBetween(
  db: Db,
  { dataset, since, until }: { dataset: string | null; since: Date; until: Date },
): Promise<AlertRow[]> {
  return select<AlertRow>(
    db,
    `select id, kind, dataset, version, incident, summary, evidence, runbook, raised_at as "raisedAt", times, last_at as "lastAt",
            coalesce((select jsonb_object_agg(sink, outcome) from snapflip.alert_deliveries where alert = id), '{}') as deliveries
       from snapflip.alerts
      where ($1::text is null or dataset = $1) and raised_at < $3 and last_at >= $2
      order by raised_at
      limit ${ALERTS_MAX}`,
    [dataset, since, until],
  )
}
