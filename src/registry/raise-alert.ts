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
 * Writes the alert, its open deliveries and its history entry, in one transaction. Where it is of no one version, it names the one that readers are on
 * by the registry. An incident that was raised before is counted, and nothing
 * else happens: two that raise it at once queue on the row (alerts_dataset_kind_incident_key).
 */
export async function raiseAlert(db: Db, alert: RaisedAlert): Promise<{ isNew: boolean; version: string | null }> {
  return transaction(db, async (client) => {
    const { id, kind, dataset, incident, summary, evidence, runbook, actor } = alert
    const values = [id, kind, dataset, alert.version, incident, summary, JSON.stringify(evidence), runbook]
    const { rows } = await client.query<{ times: number; version: string | null }>(RAISE, values)
    const { times, version } = rows[0] as (typeof rows)[number]
    if (times !== 1) return { isNew: false, version }
    await client.query(OPEN, [id, alert.sinks, alert.delivered])
    const detail = { ...evidence, summary, incident, alert: id }
    await record(client, {
      dataset,
      actor,
      kind: `alert.${kind.toLowerCase() as Lowercase<AlertKind>}`,
      version,
      detail,
    })
    return { isNew: true, version }
  })
}

const RAISE = `
  insert into snapflip.alerts (id, kind, dataset, version, incident, summary, evidence, runbook)
  values ($1, $2, $3, coalesce($4, (
      select to_tag from snapflip.flip_intents where dataset = $3 and outcome = 'confirmed' order by epoch desc, epoch_break_glass desc limit 1
    )), $5, $6, $7, $8)
  on conflict (dataset, kind, incident) do update set times = alerts.times + 1, last_at = clock_timestamp()
  returning times, version`

const OPEN = `
  insert into snapflip.alert_deliveries (alert, sink, outcome, settled_at)
  select $1, sink,
         case when sink = any ($3::text[]) then 'delivered' end,
         case when sink = any ($3::text[]) then clock_timestamp() end
    from unnest($2::text[]) as sink`
