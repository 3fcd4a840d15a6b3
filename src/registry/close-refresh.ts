import type pg from 'pg'
import type { RefreshStatus } from '../../schemas/refresh.ts'
import { endApproval } from './approvals.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

export interface RefreshEnd {
  refreshId: string
  status: RefreshStatus
  tag: string | null
  summary: string
  durationsMs: Record<string, number>
}

/**
 * Closes a refresh and frees the dataset for the next. A version it never sealed is retired with it, and what its builds
 * wrote without being part of a sealed version is abandoned. Again, or for a refresh that never opened: nothing happens.
 */
export async function closeRefresh(db: Db, end: RefreshEnd): Promise<{ closed: boolean }> {
  return transaction(db, async (client) => {
    const { rows } = await client.query<{ dataset: string }>(
      'select dataset from snapflip.refresh_runs where id = $1',
      [end.refreshId],
    )
    const row = rows[0]
    if (row === undefined) return { closed: false }
    await lockDataset(client, row.dataset)
    return { closed: await finishRefresh(client, end) }
  })
}

/** As closeRefresh, in a transaction that holds the lock of the dataset's row. */
export async function finishRefresh(client: pg.ClientBase, end: RefreshEnd): Promise<boolean> {
  const { refreshId, status, tag, summary, durationsMs } = end
  const { rows } = await client.query<{ dataset: string }>(CLOSE, [
    refreshId,
    status,
    tag,
    summary,
    JSON.stringify(durationsMs),
  ])
  const row = rows[0]
  if (row === undefined) return false
  await client.query(ABANDON_BUILDS, [refreshId])
  const unsealed = await client.query<{ tag: string }>(RETIRE_UNSEALED, [refreshId])
  // The history is the last lock that a transaction takes.
  await endApproval(client, refreshId, 'withdrawn')
  await record(client, {
    dataset: row.dataset,
    actor: null,
    kind: 'refresh.closed',
    version: tag,
    detail: { refreshId, status, summary, retired: unsealed.rows[0]?.tag ?? null },
  })
  return true
}

const CLOSE = `
  update snapflip.refresh_runs
     set closed_at = clock_timestamp(), status = $2, tag = $3, summary = $4, durations = $5
   where id = $1 and closed_at is null
  returning dataset`

const ABANDON_BUILDS = `
  update snapflip.builds
     set outcome = 'abandoned', ended_at = clock_timestamp()
   where refresh_id = $1 and outcome is null`

const RETIRE_UNSEALED = `
  update snapflip.index_versions
     set state = 'retired', state_at = clock_timestamp()
   where refresh_id = $1 and state = 'building'
  returning tag`
