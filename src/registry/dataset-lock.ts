import type pg from 'pg'
import { SnapflipError } from '../core/errors.ts'

/** The dataset's row, locked until the transaction ends: all changes of one dataset happen one after the other. */
export interface LockedDataset {
  name: string
  epochRegistry: number
  /** When capture was taken off on purpose; null while the dataset is applied. */
  detachedAt: Date | null
}

/** @throws SnapflipError NOT_APPLIED when the registry does not know the dataset. */
export async function lockDataset(client: pg.ClientBase, dataset: string): Promise<LockedDataset> {
  const { rows } = await client.query<{ epoch: string; detachedAt: Date | null }>(
    'select epoch_registry as epoch, detached_at as "detachedAt" from snapflip.datasets where name = $1 for no key update',
    [dataset],
  )
  const row = rows[0]
  if (row === undefined) throw notApplied(dataset, 'found a registry that does not know it')
  return { name: dataset, epochRegistry: Number(row.epoch), detachedAt: row.detachedAt }
}

export function notApplied(dataset: string, found: string): SnapflipError {
  return new SnapflipError(
    'NOT_APPLIED',
    `Expected the definition of ${dataset} to be applied, ${found}. Run \`snapflip apply ${dataset}\`.`,
    { dataset },
  )
}
