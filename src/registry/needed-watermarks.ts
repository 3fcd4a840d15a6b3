import { KEPT } from './kept-candidate.ts'
import { type Db, select } from './transaction.ts'

/**
 * Ids of the watermarks that a later change window may start at: those of the versions that readers are on or may go back to and what a
 * window kept, in every dataset; of an open refresh its version's once that is sealed, which may wait for days then, and all that were taken since the
 * oldest one that still builds began (its version's, and those of the ranges it has read). A held or quarantined
 * version does not count: flipped to after all, it is followed by a full build.
 *
 * Left out, since one dataset must not stop the pruning of all: detached datasets (attached again, their next version is a full build), and watermarks that are not in this database's history any more (so is theirs).
 */
export async function neededWatermarks(db: Db): Promise<string[]> {
  const rows = await select<{ id: string }>(
    db,
    `select w.id::text as id
       from snapflip.index_versions v join snapflip.watermarks w on w.id = (v.watermark ->> 'id')::uuid
            join snapflip.datasets d on d.name = v.dataset
      where d.detached_at is null
        and (v.state in ('active', 'retained', 'candidate') or (v.dataset, v.tag) in (${KEPT})
             or v.refresh_id in (select id from snapflip.refresh_runs where closed_at is null))
     union
     select id::text from snapflip.watermarks
      where at >= (
        select min(opened_at) from snapflip.refresh_runs
         where closed_at is null
           and not exists (select from snapflip.index_versions where refresh_id = refresh_runs.id and sealed_at is not null)
      )`,
  )
  return rows.map((row) => row.id)
}
