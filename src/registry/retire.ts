import { SnapflipError } from '../core/errors.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { requireNoOpenFlip } from './require-no-open-flip.ts'
import { NEEDED } from './retirable.ts'
import { changeState, setVersionState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

/**
 * Marks a version retired: from here on no flip, rollback or build takes it, and its blocks may go. Retired already:
 * nothing happens.
 *
 * @throws SnapflipError CONFLICT when it is active, a candidate, a rollback's target, or needed by an open refresh, a flip or a pin.
 */
export async function retire(
  db: Db,
  { dataset, tag, why }: { dataset: string; tag: string; why: string },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { state } = await version(client, dataset, tag)
    if (state === 'retired' || state === 'swept') return
    await requireNoOpenFlip(client, dataset, tag)
    const { rows } = await client.query<{ needed: boolean }>(`select $2 in (${NEEDED}) as needed`, [dataset, tag])
    if (state === 'candidate' || rows[0]?.needed) throw needed(dataset, tag, state)
    await changeState(client, { dataset, tag, to: 'retired' })
    await record(client, { dataset, actor: null, kind: 'version.retired', version: tag, detail: { from: state, why } })
  })
}

/** Notes that nothing of a retired version is left in the store. */
export async function swept(db: Db, { dataset, tag }: { dataset: string; tag: string }): Promise<void> {
  await setVersionState(db, { dataset, tag, to: 'swept', why: 'nothing of it is left in the store' })
}

function needed(dataset: string, tag: string, state: string): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `Expected a version of ${dataset} that nothing needs, found ${tag} ${state}, needed by a refresh, a flip, a pin or the next rollback. ` +
      `See \`snapflip status ${dataset}\`.`,
    { dataset, tag, state },
  )
}
