import { CUT_SHORT } from './flips.ts'
import { KEPT } from './kept-candidate.ts'
import { type Db, select } from './transaction.ts'

/**
 * Versions that nothing needs any more, oldest first. Good versions (active, retained) and the others (rejected, held,
 * quarantined, never flipped) are counted apart, so that a row of rejected builds does not push out what a rollback goes to.
 *
 * @param keep how many of each kind stay, the active one included.
 * @param olderThanMs how long a version must have been in its state.
 */
export async function retirable(
  db: Db,
  { dataset, keep, olderThanMs }: { dataset: string; keep: number; olderThanMs: number },
): Promise<string[]> {
  const rows = await select<{ tag: string }>(
    db,
    `with ranked as (
       select tag, ordinal, state, state_at,
              row_number() over (partition by state in ('active', 'retained') order by ordinal desc) as place
         from snapflip.index_versions
        where dataset = $1 and state in ('sealed', 'held', 'rejected', 'active', 'retained', 'quarantined')
     )
     select tag
       from ranked
      where state <> 'active'
        and place > $2
        and state_at < clock_timestamp() - make_interval(secs => $3 / 1000.0)
        and tag not in (${NEEDED})
      order by ordinal`,
    [dataset, keep, olderThanMs],
  )
  return rows.map((row) => row.tag)
}

/**
 * Tags of dataset $1 that are needed whatever their age: by an open refresh, an open flip, a pin, the next refresh (which takes up what was kept or
 * waived) or the next rollback.
 */
export const NEEDED = `
  select tag from (${KEPT}) as kept where dataset = $1
  union all
  select index_versions.tag from snapflip.index_versions join snapflip.waivers using (dataset, digest)
   where dataset = $1 and state in ('held', 'rejected') and until > clock_timestamp()
  union all
  select builds.parent from snapflip.builds join snapflip.refresh_runs on refresh_runs.id = builds.refresh_id
   where builds.dataset = $1 and builds.parent is not null and refresh_runs.closed_at is null
  union all
  select index_versions.tag from snapflip.index_versions join snapflip.refresh_runs on refresh_runs.id = index_versions.refresh_id
   where index_versions.dataset = $1 and refresh_runs.closed_at is null
  union all
  select unnest(array_remove(array[from_tag, to_tag], null)) from snapflip.flip_intents where dataset = $1 and outcome is null
  union all
  select tag from snapflip.pins where dataset = $1 and lifted_at is null and until > clock_timestamp()
  union all
  (select left_behind.tag from snapflip.index_versions as left_behind
    where left_behind.dataset = $1 and left_behind.state = 'retained'
      and left_behind.tag = (
        select from_tag from snapflip.flip_intents where dataset = $1 and outcome = 'confirmed' order by epoch desc, epoch_break_glass desc limit 1
      ))
  union all
  (select target.tag from snapflip.index_versions as target join snapflip.index_versions as active
       on active.dataset = target.dataset and active.state = 'active' and target.ordinal < active.ordinal
    where target.dataset = $1 and target.state = 'retained' order by target.ordinal desc limit 1)
  union all
  (select target.tag from snapflip.index_versions as target join snapflip.index_versions as active
       on active.dataset = target.dataset and active.state = 'active' and target.ordinal < active.ordinal
    where target.dataset = $1 and target.state = 'retained'
      and target.tag not in (${CUT_SHORT})
    order by target.ordinal desc limit 1)`
