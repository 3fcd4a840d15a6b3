import type { AlertBody } from '../../schemas/alerts.ts'
import { type Db, transaction } from './transaction.ts'

export interface ClaimedDelivery {
  sink: string
  alert: AlertBody
}

/**
 * Takes deliveries that are due, oldest first, for `claimMs`: long enough for all tries of a round. No other worker takes them meanwhile
 * (skip locked, then claimed_until); a worker that dies leaves them to the others after that.
 */
export async function claimDeliveries(
  db: Db,
  { limit, claimMs }: { limit: number; claimMs: number },
): Promise<ClaimedDelivery[]> {
  const { rows } = await transaction(db, (client) =>
    client.query<{ sink: string; at: Date } & Omit<AlertBody, 'at'>>(CLAIM, [limit, claimMs]),
  )
  return rows.map(({ sink, id, at, kind, dataset, version, incident, summary, evidence, runbook }) => ({
    sink,
    alert: { id, at: at.toISOString(), kind, dataset, version, incident, summary, evidence, runbook },
  }))
}

const CLAIM = `
  with due as (
    select alert, sink from snapflip.alert_deliveries
     where outcome is null and next_at <= now() and claimed_until <= now()
     order by next_at
     limit $1
     for update skip locked
  ), claimed as (
    update snapflip.alert_deliveries as delivery
       set claimed_until = now() + $2 * interval '1 millisecond', rounds = rounds + 1
      from due
     where delivery.alert = due.alert and delivery.sink = due.sink
    returning delivery.alert, delivery.sink
  )
  select sink, id, raised_at as at, kind, dataset, version, incident, summary, evidence, runbook
    from claimed join snapflip.alerts on id = alert`
