import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { changeState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

/**
 * Lifts a quarantine. A version that was active before is retained again, one that never was is sealed; one that was retired
 * meanwhile stays so. Not quarantined: nothing happens.
 */
export async function release(
  db: Db,
  { dataset, tag, by, reason }: { dataset: string; tag: string; by: string; reason: string },
): Promise<{ released: boolean }> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { state } = await version(client, dataset, tag)
    const { rowCount } = await client.query(LIFT, [dataset, tag, by, reason])
    if (rowCount === 0) return { released: false }
    if (state === 'quarantined') {
      const { rowCount: timesActive } = await client.query(WAS_ACTIVE, [dataset, tag])
      await changeState(client, { dataset, tag, to: timesActive === 0 ? 'sealed' : 'retained' })
    }
    await record(client, { dataset, actor: by, kind: 'release', version: tag, detail: { reason } })
    return { released: true }
  })
}

const LIFT = `
  update snapflip.quarantines
     set lifted_at = clock_timestamp(), lifted_by = $3, lifted_reason = $4
   where dataset = $1 and tag = $2 and lifted_at is null`

const WAS_ACTIVE = `
  select from snapflip.flip_intents where dataset = $1 and to_tag = $2 and outcome = 'confirmed' limit 1`
