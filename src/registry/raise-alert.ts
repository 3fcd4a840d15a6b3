import type { AlertBody, AlertKind } from '../../schemas/alerts.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/** An alert as it is kept, with what becomes of it in each sink. */
export interface RaisedAlert extends Omit<AlertBody, 'at' | 'kind'> {
  kind: AlertKind
  actor: string | null
  /** Names of the sinks that are to have it, and of those among them that have it already. */
  sinks: readonly string[]
  delivered: readonly string[]
}

/**
 * Writes the alert, its open deliveries and its history entry, in one transaction. An incident that was raised before is counted, and nothing
 * else happens: two that raise it at once queue on the row (alerts_dataset_kind_incident_key).
 */
export async function raiseAlert(db: Db, alert: RaisedAlert): Promise<{ isNew: boolean }> {
  return transaction(db, async (client) => {
    const { id, kind, dataset, version, incident, summary, evidence, runbook, actor } = alert
    const values = [id, kind, dataset, version, incident, summary, JSON.stringify(evidence), runbook]
    const { rows } = await client.query<{ times: number }>(RAISE, values)
    if (rows[0]?.times !== 1) return { isNew: false }
    await client.query(OPEN, [id, alert.sinks, alert.delivered])
    const detail = { ...evidence, summary, incident, alert: id }
    await record(client, {
      dataset,
      actor,
      kind: `alert.${kind.toLowerCase() as Lowercase<AlertKind>}`,
      version,
      detail,
    })
    return { isNew: true }
  })
}

const RAISE = `
  insert into snapflip.alerts (id, kind, dataset, version, incident, summary, evidence, runbook)
  values ($1, $2, $3, $4, $5, $6, $7, $8)
  on conflict (dataset, kind, incident) do update set times = alerts.times + 1, last_at = clock_timestamp()
  returning times`

const OPEN = `
  insert into snapflip.alert_deliveries (alert, sink, outcome, settled_at)
  select $1, sink,
         case when sink = any ($3::text[]) then 'delivered' end,
         case when sink = any ($3::text[]) then clock_timestamp() end
    from unnest($2::text[]) as sink`
