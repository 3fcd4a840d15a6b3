import { type Db, select } from './transaction.ts'

export interface OpenRefresh {
  refreshId: string
  dataset: string
  workflowId: string
  runId: string
  reason: string | null
  requestedBy: string
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
            requested_by as "requestedBy", "full", ${RAN_UNDER}, opened_at as "openedAt"
       from snapflip.refreshes
      where dataset = $1 and closed_at is null`,
    [dataset],
  )
  return rows[0] ?? null
}
