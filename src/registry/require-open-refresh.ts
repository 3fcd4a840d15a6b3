import type pg from 'pg'
import { SnapflipError } from '../core/errors.ts'

/**
 * The fence of every step of a refresh: one that was closed, or taken over, can change nothing any more. Null: the refresh of a version that
 * was found in the store, which this registry never opened.
 *
 * @throws SnapflipError SUPERSEDED
 */
export async function requireOpenRefresh(
  client: pg.ClientBase,
  dataset: string,
  refreshId: string | null,
): Promise<void> {
  const { rows } = await client.query<{ status: string | null }>(
    'select status from snapflip.refresh_runs where id = $1 and dataset = $2',
    [refreshId, dataset],
  )
  const row = rows[0]
  if (row !== undefined && row.status === null) return
  throw new SnapflipError(
    'SUPERSEDED',
    `Expected refresh ${refreshId ?? '(unknown)'} of ${dataset} to be open, found ${row === undefined ? 'no such refresh' : `it closed as ${row.status}`}. ` +
      `See \`snapflip status ${dataset}\`.`,
    { dataset, refreshId, status: row?.status ?? null },
  )
}
