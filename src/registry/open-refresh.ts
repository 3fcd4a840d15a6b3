import type pg from 'pg'
import { SnapflipError } from '../core/errors.ts'
import { activeHold, onHold } from './active-hold.ts'
import { requireNoBake } from './bakes.ts'
import { finishRefresh } from './close-refresh.ts'
import type { PolicyInForce } from './current-definition.ts'
import { lockDataset, notApplied } from './dataset-lock.ts'
import { requireNoDrill } from './drills.ts'
import { type OpenRefresh, openRefreshOf, type RequestedVia } from './open-refresh-of.ts'
import { record } from './record.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { type Db, transaction } from './transaction.ts'

export interface RefreshToOpen {
  refreshId: string
  dataset: string
  workflowId: string
  runId: string
  reason: string | null
  /** A login, `temporal:<identity>`, or the workflow that started it. */
  requestedBy: string
  requestedVia: RequestedVia
  full: boolean
  /** Asked for whatever the dataset's windows say. */
  outsideWindow?: boolean
  /** What it runs under: the definition in force, and this snapflip. */
  policy: PolicyInForce
  snapflip: string
}

/**
 * Takes the dataset's lock for one refresh. Again for the same refresh id: nothing happens.
 *
 * An open refresh of the same workflow id and another run is taken over: Temporal runs one workflow of an id at a time, so that
 * run was terminated without closing its refresh. What is left of it can write no more: every later step of a refresh needs it open.
 *
 * @throws SnapflipError REFRESH_RUNNING (another, a drill, or a bake that is waited for), ON_HOLD, NOT_APPLIED, or SUPERSEDED when this very refresh was closed before.
 */
export async function openRefresh(db: Db, refresh: RefreshToOpen): Promise<void> {
  await transaction(db, async (client) => {
    const { dataset } = refresh
    const { detachedAt } = await lockDataset(client, dataset)
    if (await isKnown(client, refresh.refreshId)) return requireOpenRefresh(client, dataset, refresh.refreshId)
    // A build would attach capture again by itself.
    if (detachedAt !== null) throw notApplied(dataset, `found it detached at ${detachedAt.toISOString()}`)
    const hold = await activeHold(client, dataset)
    if (hold !== null) throw onHold(dataset, hold)
    await requireNoDrill(client, dataset)
    await requireNoBake(client, dataset)
    const open = await openRefreshOf(client, dataset)
    if (open !== null) {
      if (open.workflowId !== refresh.workflowId || open.runId === refresh.runId) throw refreshRunning(open)
      await finishRefresh(client, {
        refreshId: open.refreshId,
        status: 'FAILED',
        tag: null,
        summary: `run ${open.runId} of ${open.workflowId} ended without closing its refresh; run ${refresh.runId} took over`,
        durationsMs: {},
      })
    }
    const { refreshId, workflowId, runId, reason, requestedBy, full, outsideWindow, policy, snapflip, requestedVia } =
      refresh
    await client.query(OPEN, [
      ...[refreshId, dataset, workflowId, runId, reason, requestedBy, full],
      ...[policy.number, policy.digest, snapflip, requestedVia],
    ])
    await record(client, {
      dataset,
      actor: requestedBy,
      kind: 'refresh.opened',
      detail: {
        refreshId,
        workflowId,
        runId,
        reason,
        full,
        policy: policy.number,
        policyDigest: policy.digest,
        snapflip,
        ...(outsideWindow ? { outsideWindow } : {}),
      },
    })
  })
}

/** The unique index refreshes_one_open refuses a second open refresh even without the lock of the dataset's row. */
const OPEN = `
  insert into snapflip.refresh_runs (id, dataset, workflow_id, run_id, reason, requested_by, "full", policy_number, policy_digest, snapflip_version, requested_via)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

async function isKnown(client: pg.ClientBase, refreshId: string): Promise<boolean> {
  const { rowCount } = await client.query('select from snapflip.refresh_runs where id = $1', [refreshId])
  return rowCount === 1
}

function refreshRunning(open: OpenRefresh): SnapflipError {
  const since = open.openedAt.toISOString()
  return new SnapflipError(
    'REFRESH_RUNNING',
    `Expected no open refresh of ${open.dataset}, found workflow ${open.workflowId} at work since ${since}. ` +
      `Wait for it, or \`snapflip cancel ${open.dataset}\`.`,
    { dataset: open.dataset, workflowId: open.workflowId, runId: open.runId, refreshId: open.refreshId, since },
  )
}
