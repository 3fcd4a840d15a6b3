import type pg from 'pg'
import type { VersionState } from '../core/version-state.ts'
import { record } from './record.ts'

/** What an earlier refresh has sealed becomes this one's. In a transaction that holds the lock of the dataset's row, as its last statements. */
export async function takeOver(
  client: pg.ClientBase,
  { dataset, tag, refreshId, from }: { dataset: string; tag: string; refreshId: string; from: VersionState },
): Promise<void> {
  await client.query('update snapflip.index_versions set refresh_id = $3 where dataset = $1 and tag = $2', [
    dataset,
    tag,
    refreshId,
  ])
  await record(client, { dataset, actor: null, kind: 'version.reopened', version: tag, detail: { from, refreshId } })
}
