import type pg from 'pg'
import { SnapflipError } from '../core/errors.ts'

/** The dataset of a refresh. @throws SnapflipError SUPERSEDED when there is no such refresh. */
export async function refreshOf(client: pg.ClientBase, refreshId: string): Promise<string> {
  const { rows } = await client.query<{ dataset: string }>('select dataset from snapflip.refresh_runs where id = $1', [
    refreshId,
  ])
  if (rows[0] !== undefined) return rows[0].dataset
  throw new SnapflipError('SUPERSEDED', `Expected refresh ${refreshId} to be open, found no such refresh.`, {
    refreshId,
  })
}
