import { type Db, transaction } from './transaction.ts'

/** What was not delivered by then is told by `doctor` alone: a day-old alert is no news, and the queue must not grow for ever. */
export const DELIVERY_AGE_MAX = '24 hours'

/** After a first round; twice that after the second, and so on, up to an hour. */
const ROUND_BACKOFF_MS = 30_000
const ROUND_BACKOFF_MS_MAX = 3_600_000

export interface DeliverySettlement {
  alert: string
  sink: string
  /** failed: due again later, unless it is too old by now. */
  result: 'delivered' | 'refused' | 'failed'
  found: string | null
}

/** Records how a round ended. What another worker has settled since stays as it is. */
export async function settleDelivery(db: Db, { alert, sink, result, found }: DeliverySettlement): Promise<void> {
  const values = [alert, sink, result, found, ROUND_BACKOFF_MS, ROUND_BACKOFF_MS_MAX, DELIVERY_AGE_MAX]
  await transaction(db, (client) => client.query(SETTLE, values))
}

const SETTLE = `
  with ended as (
    select case when $3 <> 'failed' then $3
                when raised_at < now() - $7::interval then 'expired'
           end as outcome
      from snapflip.alerts where id = $1
  )
  update snapflip.alert_deliveries
     set outcome = ended.outcome,
         settled_at = case when ended.outcome is not null then clock_timestamp() end,
         claimed_until = '-infinity',
         next_at = now() + least($5 * power(2, least(rounds, 20) - 1), $6) * interval '1 millisecond',
         found = $4
    from ended
   where alert = $1 and sink = $2 and alert_deliveries.outcome is null`
