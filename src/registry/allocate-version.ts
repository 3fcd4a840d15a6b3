import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Allocates the refresh's version, in state building: `vYYYYMMDD-NN` for the UTC day of `day`, NN counting on within it;
 * the ordinal rises by one. Again for the same refresh: the same version.
 *
 * @throws SnapflipError SUPERSEDED when the refresh is not open.
 */
export async function allocateVersion(
  db: Db,
  { dataset, refreshId, day }: { dataset: string; refreshId: string; day: Date },
): Promise<{ tag: string; ordinal: number }> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    await requireOpenRefresh(client, dataset, refreshId)
    const known = await client.query<{ tag: string; ordinal: number }>(
      'select tag, ordinal from snapflip.index_versions where refresh_id = $1',
      [refreshId],
    )
    if (known.rows[0] !== undefined) return known.rows[0]
    const allocated = await client.query<{ tag: string; ordinal: number }>(ALLOCATE, [
      dataset,
      refreshId,
      day.toISOString().slice(0, 10),
    ])
    const version = allocated.rows[0] as { tag: string; ordinal: number } // an insert of one row returns it
    await record(client, {
      dataset,
      actor: null,
      kind: 'version.allocated',
      version: version.tag,
      detail: { refreshId, ordinal: version.ordinal },
    })
    return version
  })
}

/**
 * Above the highest, not the count: of versions that a registry found in the store, some may be missing. Rows are never deleted. Relies on
 * the lock of the dataset's row, and on the index versions_by_day.
 */
const ALLOCATE = `
  with number as (
    select coalesce((
             select max(substring(tag from '[0-9]+$')::integer) from snapflip.index_versions where dataset = $1 and day = $3::date
           ), 0) + 1 as in_day,
           coalesce((select max(ordinal) from snapflip.index_versions where dataset = $1), 0) + 1 as ordinal
  )
  insert into snapflip.index_versions (dataset, tag, ordinal, day, refresh_id)
  select $1,
         'v' || to_char($3::date, 'YYYYMMDD') || '-' || lpad(in_day::text, greatest(2, length(in_day::text)), '0'),
         ordinal, $3::date, $2
    from number
  returning tag, ordinal`
