import { canaryOf } from './canaries.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/** Records that more readers are to have the candidate, before the pointer says so. As many already, or the canary is over: nothing happens. */
export async function rampCanary(
  db: Db,
  { dataset, canaryId, share }: { dataset: string; canaryId: string; share: number },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const canary = await canaryOf(client, canaryId)
    if (canary === null || canary.outcome !== null || canary.share === null || canary.share >= share) return
    await client.query('update snapflip.canaries set share = $2 where id = $1', [canaryId, share])
    const detail = { canaryId, from: canary.share, to: share }
    await record(client, { dataset, actor: null, kind: 'canary.ramped', version: canary.tag, detail })
  })
}
