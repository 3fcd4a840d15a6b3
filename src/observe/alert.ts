import type { Logger } from './log.ts'

/** What a person must be told. Each kind has its runbook. */
export interface Alert {
  kind:
    | 'VERIFY_FAILED'
    | 'CHANGE_MISSED'
    | 'LINEAGE_BROKEN'
    | 'COMPENSATION_FAILED'
    | 'ROLLBACK_UNHEALTHY'
    | 'STORE_REBOUND'
  dataset: string
  version: string | null
  summary: string
}

export type AlertSink = (alert: Alert) => void

export const RUNBOOKS: Record<Alert['kind'], string> = {
  VERIFY_FAILED: 'runbooks/bad-version.md',
  CHANGE_MISSED: 'runbooks/change-missed.md',
  LINEAGE_BROKEN: 'runbooks/lineage-broken.md',
  COMPENSATION_FAILED: 'runbooks/compensation-failed.md',
  ROLLBACK_UNHEALTHY: 'runbooks/bad-version.md',
  STORE_REBOUND: 'runbooks/store-rebound.md',
}

/** The sink that is always there: one line at level error, marked `alert`, naming its runbook. */
export function logAlerts(log: Logger): AlertSink {
  return (alert) =>
    log.error(
      { alert: alert.kind, dataset: alert.dataset, version: alert.version, runbook: RUNBOOKS[alert.kind] },
      alert.summary,
    )
}
