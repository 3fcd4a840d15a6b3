import { type Db, select } from './transaction.ts'

export interface UndeliveredAlert {
  sink: string
  kind: string
  dataset: string
  raisedAt: Date
  /** Null: it is tried again. */
  outcome: 'refused' | 'expired' | null
  found: string | null
}

/** Of the last three days, newest first: what a sink has not got, once a round has failed. */
export async function undeliveredAlerts(db: Db, limit = 100): Promise<UndeliveredAlert[]> {
  return select<UndeliveredAlert>(
    db,
    `select sink, kind, dataset, raised_at as "raisedAt", outcome, found
       from snapflip.alerts join snapflip.alert_deliveries on alert = id
      where raised_at > now() - interval '3 days'
        and outcome is distinct from 'delivered' and found is not null
      order by raised_at desc
      limit $1`,
    [limit],
  )
}
