import { SnapflipError } from '../core/errors.ts'
import { lockDataset } from './dataset-lock.ts'
import { openRefreshOf } from './open-refresh-of.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Records that capture comes off on purpose, before it does: from here on no refresh opens, which would attach it again by itself, until the
 * definition is applied anew. `tables` lose their capture; those `kept` are used by other datasets.
 *
 * @throws SnapflipError REFRESH_RUNNING, NOT_APPLIED
 */
export async function detachDataset(
  db: Db,
  { dataset, by, tables, kept }: { dataset: string; by: string; tables: readonly string[]; kept: readonly string[] },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const open = await openRefreshOf(client, dataset)
    if (open !== null) {
      throw new SnapflipError(
        'REFRESH_RUNNING',
        `Expected no open refresh of ${dataset}, found workflow ${open.workflowId} at work; it would attach capture again. \`snapflip cancel ${dataset}\` ends it.`,
        { dataset, workflowId: open.workflowId },
      )
    }
    await client.query('update snapflip.datasets set detached_at = clock_timestamp() where name = $1', [dataset])
    await record(client, { dataset, actor: by, kind: 'capture.detached', detail: { tables, kept } })
  })
}
