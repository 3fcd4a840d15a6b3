import { checkSink } from '../observe/send-alert.ts'
import { undeliveredAlerts } from '../registry/undelivered-alerts.ts'
import { bad, type Check, checked, good } from './check.ts'
import type { Session } from './session.ts'

/** Whether each sink can be sent to, as far as can be seen without sending, and what was not delivered. */
export async function lookAtAlerts(session: Session): Promise<Check[]> {
  const checks: Check[] = []
  for (const [name, sink] of Object.entries((await session.config()).alerts.sinks)) {
    checks.push(
      sink.kind === 'log'
        ? good(`alerts ${name}`, 'the log of the worker')
        : await checked(`alerts ${name}`, () => checkSink(`alerts.sinks.${name}`, sink)),
    )
  }
  const undelivered = await session
    .registry()
    .then((pool) => undeliveredAlerts(pool))
    .catch(() => []) // told by the look at PostgreSQL
  const [last] = undelivered
  if (last === undefined) return checks
  const { kind, dataset, sink, raisedAt, outcome, found } = last
  const next =
    outcome === null ? 'It is tried again.' : 'A worker that starts tries it again within a day of the alert.'
  const at = raisedAt.toISOString()
  return [
    ...checks,
    bad(
      'alerts undelivered',
      'WEBHOOK_FAILED',
      `${undelivered.length} in three days; the last: ${kind} of ${dataset} at ${at}, for ${sink}`,
      `${found} ${next} See what it says: \`snapflip history ${dataset} --kind alert\`.`,
    ),
  ]
}
