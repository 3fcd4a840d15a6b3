import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Lets the next epoch be above `atLeast`: after a restored or lagging database, the registry goes on from the highest of itself
 * and the stores. Lower than what was issued: nothing happens.
 *
 * @returns the last number that counts as issued.
 */
export async function raiseEpoch(db: Db, dataset: string, atLeast: number): Promise<number> {
  return transaction(db, async (client) => {
    const { epochRegistry } = await lockDataset(client, dataset)
    if (epochRegistry >= atLeast) return epochRegistry
    await client.query('update snapflip.datasets set epoch_registry = $2 where name = $1', [dataset, atLeast])
    await record(client, { dataset, actor: null, kind: 'epoch.raised', detail: { from: epochRegistry, to: atLeast } })
    return atLeast
  })
}
