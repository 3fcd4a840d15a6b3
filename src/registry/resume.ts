import type { Hold } from '../../schemas/pointer.ts'
import { lockDataset } from './dataset-lock.ts'
import { liftHold } from './hold.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/** Lifts the dataset's hold, and returns it. None there, nor in the store as the caller read it: nothing happens. */
export async function resume(
  db: Db,
  {
    dataset,
    by,
    reason,
    heldInStore = false,
    kept = [],
  }: {
    dataset: string
    by: string
    reason: string
    heldInStore?: boolean
    /** Versions that a person said are bad, and stay quarantined. */
    kept?: readonly string[]
  },
): Promise<{ lifted: boolean; hold: Hold | null }> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const hold = await liftHold(client, dataset, by, reason)
    const lifted = hold !== null || heldInStore
    if (lifted)
      await record(client, { dataset, actor: by, kind: 'resume', detail: { reason, ...(kept.length > 0 && { kept }) } })
    return { lifted, hold }
  })
}
