import type pg from 'pg'
import { SnapflipError } from '../core/errors.ts'
import { lockDataset } from './dataset-lock.ts'
import { liftForbiddenPin } from './pins.ts'
import { record } from './record.ts'
import { requireNoOpenFlip } from './require-no-open-flip.ts'
import { changeState } from './set-version-state.ts'
import { type Db, select, transaction } from './transaction.ts'
import { version } from './version.ts'

/**
 * Forbids every flip and rollback to a version. Quarantined already: nothing happens. The active version is left by a
 * rollback, which quarantines it.
 *
 * @throws SnapflipError CONFLICT for the active version, for one whose flip is not settled, and for those that nobody can flip to
 *   anyway.
 */
export async function quarantine(
  db: Db,
  { dataset, tag, by, reason }: { dataset: string; tag: string; by: string; reason: string },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { state } = await version(client, dataset, tag)
    if (state === 'active') {
      throw new SnapflipError(
        'CONFLICT',
        `Expected a version of ${dataset} that is not active, found ${tag}, which readers are on. ` +
          `\`snapflip rollback ${dataset} --reason …\` leaves it and quarantines it.`,
        { dataset, tag, state },
      )
    }
    await requireNoOpenFlip(client, dataset, tag)
    const from = await changeState(client, { dataset, tag, to: 'quarantined' })
    // Its state may have gone elsewhere meanwhile, by what its store said: that it goes back is a change too.
    if ((await putQuarantine(client, { dataset, tag, by, reason })) || from !== 'quarantined') {
      await record(client, { dataset, actor: by, kind: 'quarantine', version: tag, detail: { reason, from: state } })
    }
  })
}

/** The row, and the end of a pin to it, in a transaction that holds the lock of the dataset's row. False: it was there already. */
export async function putQuarantine(
  client: pg.ClientBase,
  { dataset, tag, by, reason }: { dataset: string; tag: string; by: string; reason: string },
): Promise<boolean> {
  const { rowCount } = await client.query(QUARANTINE, [dataset, tag, by, reason])
  // The pointer's goes with the same change (`forbidding`); one left here would come back with a repair after a release.
  if (rowCount === 1) await liftForbiddenPin(client, { dataset, tag, by, reason: `quarantined: ${reason}` })
  return rowCount === 1
}

const QUARANTINE = `
  insert into snapflip.quarantines (dataset, tag, by, reason)
  values ($1, $2, $3, $4)
  on conflict (dataset, tag) where lifted_at is null do nothing`

/** Who quarantined it, and why; null: nobody, or it was lifted. */
export async function quarantineOf(
  db: Db,
  dataset: string,
  tag: string,
): Promise<{ by: string; reason: string } | null> {
  const [row] = await select<{ by: string; reason: string }>(
    db,
    'select by, reason from snapflip.quarantines where dataset = $1 and tag = $2 and lifted_at is null',
    [dataset, tag],
  )
  return row ?? null
}

/** Tags that rollbacks since the last `resume` have left and quarantined, and still are; oldest first. By the order of the history: clocks may differ. */
export async function quarantinedByRollbacks(db: Db, dataset: string): Promise<string[]> {
  const rows = await select<{ tag: string }>(db, BY_ROLLBACKS, [dataset])
  return rows.map((row) => row.tag)
}

const BY_ROLLBACKS = `
  select tag
    from snapflip.quarantines
   where dataset = $1 and lifted_at is null
     and exists (
       select from snapflip.history
        where history.dataset = $1 and kind = 'rollback.confirmed'
          and seq > coalesce((select max(seq) from snapflip.history where dataset = $1 and kind = 'resume'), 0)
          and (detail ->> 'from' = tag or detail -> 'quarantined' ? tag)
     )
   order by id`
