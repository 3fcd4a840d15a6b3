import type { Hold } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'
import { type Db, select } from './transaction.ts'

/** The dataset's hold; null when there is none. */
export async function activeHold(db: Db, dataset: string): Promise<Hold | null> {
  const rows = await select<{ by: string; reason: string; since: Date }>(
    db,
    'select by, reason, since from snapflip.dataset_holds where dataset = $1 and lifted_at is null',
    [dataset],
  )
  const row = rows[0]
  return row === undefined ? null : { by: row.by, reason: row.reason, at: row.since.toISOString() }
}

export function onHold(dataset: string, hold: Hold): SnapflipError {
  return new SnapflipError(
    'ON_HOLD',
    `Expected ${dataset} not to be on hold, found a hold by ${hold.by} since ${hold.at}: ${hold.reason}. ` +
      `\`snapflip resume ${dataset} --reason …\` lifts it.`,
    { dataset, by: hold.by, reason: hold.reason, since: hold.at },
  )
}
