import { lockDataset } from './dataset-lock.ts'
import { putQuarantine } from './quarantine.ts'
import { record } from './record.ts'
import { changeState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

/**
 * Quarantines versions of which a store has lost something, so that nothing is built upon them and no rollback goes there. The active one
 * stays active until the next flip leaves it: readers have nothing better. Quarantined already: nothing happens.
 */
export async function loseVersions(
  db: Db,
  { dataset, lost }: { dataset: string; lost: readonly { tag: string; why: string }[] },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    for (const { tag, why } of lost) {
      const { state } = await version(client, dataset, tag)
      if (!(await putQuarantine(client, { dataset, tag, by: 'snapflip', reason: why }))) continue
      if (state === 'retained') await changeState(client, { dataset, tag, to: 'quarantined' })
      await record(client, {
        dataset,
        actor: null,
        kind: 'quarantine',
        version: tag,
        detail: { reason: why, from: state },
      })
    }
  })
}
