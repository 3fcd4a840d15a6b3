import { DELIVERY_AGE_MAX } from './settle-delivery.ts'
import { type Db, transaction } from './transaction.ts'

/** For a worker that starts: what a receiver refused, or did not answer to, is due again now; somebody may have corrected it. */
export async function reopenDeliveries(db: Db): Promise<void> {
  await transaction(db, (client) => client.query(REOPEN, [DELIVERY_AGE_MAX]))
}

const REOPEN = `
  update snapflip.alert_deliveries
     set outcome = null, settled_at = null, next_at = now()
   where (outcome is null or outcome = 'refused')
     and claimed_until <= now()
     and alert in (select id from snapflip.alerts where raised_at > now() - $1::interval)`
