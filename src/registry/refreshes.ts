import type { RefreshStatus } from '../../schemas/refresh.ts'
import { type OpenRefresh, RAN_UNDER } from './open-refresh-of.ts'
import { type Db, select } from './transaction.ts'

/** A refresh, open or ended. */
export interface RefreshRow extends OpenRefresh {
  /** These four are null while it is open; tag also where none was made. */
  closedAt: Date | null
  status: RefreshStatus | null
  summary: string | null
  durationsMs: Record<string, number> | null
  tag: string | null
}

/** The dataset's refreshes, newest first. */
export async function refreshes(db: Db, dataset: string, limit = 20): Promise<RefreshRow[]> {
  return readRefreshes(db, 'where dataset = $1 order by opened_at desc limit $2', [dataset, limit])
}

/** Those that `which` (a where clause with its order) picks. */
export async function readRefreshes(db: Db, which: string, values: readonly unknown[]): Promise<RefreshRow[]> {
  return select<RefreshRow>(
    db,
    `select id as "refreshId", dataset, workflow_id as "workflowId", run_id as "runId", reason,
            requested_by as "requestedBy", requested_via as "requestedVia", "full", ${RAN_UNDER}, opened_at as "openedAt", closed_at as "closedAt", status, tag, summary,
            durations as "durationsMs"
       from snapflip.refresh_runs ${which}`,
    values,
  )
}
