import type pg from 'pg'

/**
 * The registry's part of the next epoch, of a flip, a rollback or a canary. The update's row lock lasts until commit: no two transactions read
 * the same number; it counts as issued when the transaction has committed.
 */
export async function issueEpoch(client: pg.ClientBase, dataset: string): Promise<number> {
  const { rows } = await client.query<{ epoch: string }>(ISSUE, [dataset])
  return Number(rows[0]?.epoch)
}

const ISSUE = `
  update snapflip.datasets
     set epoch_registry = epoch_registry + 1
   where name = $1
  returning epoch_registry as epoch`
