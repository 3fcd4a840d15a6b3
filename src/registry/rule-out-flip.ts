import { isSnapflipError } from '../core/errors.ts'
import { lockDataset } from './dataset-lock.ts'
import { type FlipRow, flipOf } from './flips.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Rules out a flip that nobody has intended yet, for good: an attempt that was only paused, and asks for it later, is refused under the same lock
 * (`intendFlip`). No history entry: what was never intended has no state to change, and how the refresh ended has an entry of its own.
 *
 * @returns the flip when it was intended, which rules nothing out; null when it now never will be.
 */
export async function ruleOutFlip(
  db: Db,
  { dataset, flipId }: { dataset: string; flipId: string },
): Promise<FlipRow | null> {
  return transaction(db, async (client) => {
    try {
      await lockDataset(client, dataset)
    } catch (error) {
      // Nothing is intended for a dataset that the registry does not know.
      if (isSnapflipError(error, 'NOT_APPLIED')) return null
      throw error
    }
    const known = await flipOf(client, flipId)
    if (known === null) await client.query(RULE_OUT, [flipId, dataset])
    return known
  })
}

const RULE_OUT = `
  insert into snapflip.ruled_out_flips (flip_id, dataset)
  values ($1, $2)
      on conflict (flip_id) do nothing`
