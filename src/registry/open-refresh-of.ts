import { type Db, select } from './transaction.ts'

/** How it is known who asked: a ticket proves a login; temporal is whatever anybody calls themselves; workflow is nobody, a schedule say. */
export type RequestedVia = 'login' | 'temporal' | 'workflow'

export interface OpenRefresh {
  refreshId: string
  dataset: string
  workflowId: string
  runId: string
  reason: string | null
  requestedBy: string
  /** Null in refreshes from before it was recorded. */
  requestedVia: RequestedVia | null
  full: boolean
  /** Policy version, its digest and the snapflip it ran under; null in refreshes from before these were recorded. */
  policyNumber: number | null
  policyDigest: string | null
  snapflipVersion: string | null
  openedAt: Date
}

export const RAN_UNDER = `
  policy_number as "policyNumber", policy_digest as "policyDigest", snapflip_version as "snapflipVersion"`

/** The dataset's open refresh; null when none is open. */
export async function openRefreshOf(db: Db, dataset: string): Promise<OpenRefresh | null> {
  const rows = await select<OpenRefresh>(
    db,
    `select id as "refreshId", dataset, workflow_id as "workflowId", run_id as "runId", reason,
            requested_by as "requestedBy", requested_via as "requestedVia", "full", ${RAN_UNDER}, opened_at as "openedAt"
       from snapflip.refresh_runs
      where dataset = $1 and closed_at is null`,
    [dataset],
  )
  return rows[0] ?? null
}
