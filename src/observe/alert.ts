import type { AlertKind } from '../../schemas/alerts.ts'

/** What a person must be told, once an incident. */
export interface Alert {
  kind: AlertKind
  dataset: string
  /** Tag of the version it is about. */
  version: string | null
  /** What tells this incident from the next one of its kind and dataset: a flip id, a watermark. Whoever meets the same gives the same. */
  incident: string
  summary: string
  /** Ids, counts and hashes of keys; never rows. */
  evidence: Readonly<Record<string, unknown>>
  /** Who did what it is about, verified by the caller; the database's session_user without. */
  actor?: string | null
  /** Only these sinks, whatever they take otherwise; without it all that take its kind and dataset. */
  sinks?: readonly string[]
}

/**
 * Tells of an incident: its row and its history entry are there when this resolves, and each sink gets it from then on. Raised again, it is
 * only counted. Never throws, and takes five seconds at most; false when the registry did not answer by then: the log has it, and each sink is
 * tried once.
 */
export type RaiseAlert = (alert: Alert) => Promise<boolean>

/** Each page names the alert, and begins with what not to do. */
export const RUNBOOKS: Record<AlertKind, string> = {
  VERIFY_FAILED: 'runbooks/bad-version.md',
  BAKE_FAILED: 'runbooks/bake-failed.md',
  CHANGE_MISSED: 'runbooks/change-missed.md',
  LINEAGE_BROKEN: 'runbooks/lineage-broken.md',
  HISTORY_BROKEN: 'runbooks/history-chain-broken.md',
  COMPENSATION_FAILED: 'runbooks/compensation-failed.md',
  ROLLBACK_UNHEALTHY: 'runbooks/bad-version.md',
  STORE_REBOUND: 'runbooks/store-rebound.md',
  GATE_REFUSED: 'runbooks/failed-gate.md',
  STORE_DEGRADED: 'runbooks/store-degraded.md',
  REFRESH_FAILING: 'runbooks/refresh-failing.md',
  VERSION_EXPIRED: 'runbooks/version-expired.md',
  APPROVAL_WAITING: 'runbooks/approval-waiting.md',
}
