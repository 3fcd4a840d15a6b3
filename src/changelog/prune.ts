import type { ClientBase } from 'pg'
import { translate } from './failure.ts'

/** Rows deleted in one transaction: short enough to hold up nobody's vacuum. */
const BATCH_ROWS = 20_000
/** Builds that are open have watermarks that no sealed version names yet: those of their chunks and their own. */
const YOUNG_MS = 24 * 3_600_000
/** What is left after so many batches waits for the next pruning. */
const BATCHES_MAX = 5_000

export interface Pruned {
  readonly changes: number
  readonly events: number
  readonly watermarks: number
}

/**
 * Deletes what no window can need any more: watermarks that are not among `keep` (by id) and began before all of these, then changes that every
 * one of these sees, then events that a later event of their key replaces. Keeps the last event of each key, so that an events index can always
 * be rebuilt. Watermarks younger than `youngMs` count as kept. Deletes nothing when `keep` is empty or names a watermark that is not there.
 *
 * Watermarks go first: where one still exists, all changes since it exist too. `keep` holds those of every retained version of every dataset. A
 * watermark taken meanwhile began later than those kept, and stays.
 */
export async function prune(
  client: ClientBase,
  keep: readonly string[],
  signal: AbortSignal,
  youngMs = YOUNG_MS,
): Promise<Pruned> {
  const none: Pruned = { changes: 0, events: 0, watermarks: 0 }
  if (keep.length === 0) return none
  try {
    // Snapshots are nested: of two, the one with the lower xmax was taken first and sees no more than the other. So the earliest decide.
    const { rows } = await client.query<{ snapshots: string[] | null; horizon: string | null; found: string }>(
      `with kept as (
         select id, snapshot, pg_snapshot_xmax(snapshot) as xmax from snapflip.watermarks
         where id = any ($1::uuid[]) or at > clock_timestamp() - make_interval(secs => $2::float8 / 1000)
       )
       select array(select distinct snapshot::text from kept where xmax = (select min(xmax) from kept)) as snapshots,
         (select min(xmax)::text from kept) as horizon, (select count(*) from kept where id = any ($1::uuid[])) as found`,
      [keep, youngMs],
    )
    const { snapshots, horizon, found } = rows[0] ?? {}
    if (snapshots == null || horizon == null || Number(found) !== new Set(keep).size) return none
    const watermarks = await client.query(
      `delete from snapflip.watermarks
       where pg_snapshot_xmax(snapshot) <= $1::xid8 and id <> all ($2::uuid[])
         and at <= clock_timestamp() - make_interval(secs => $3::float8 / 1000)`,
      [horizon, keep, youngMs],
    )
    // By the index on xid.
    const changes = await inBatches(signal, () =>
      client.query(
        `delete from snapflip.changelog where ctid = any (array(
           select ctid from snapflip.changelog c where xid < $1::xid8 and ${seen('c')} order by xid limit $3))`,
        [horizon, snapshots, BATCH_ROWS],
      ),
    )
    const events = await inBatches(signal, () =>
      client.query(
        `delete from snapflip.events where ctid = any (array(
           select e.ctid from snapflip.events e
           where e.xid < $1::xid8 and ${seen('e')} and exists (
             select from snapflip.events l
             where l.dataset = e.dataset and l.index = e.index and l.key = e.key and l.seq > e.seq and l.xid < $1::xid8 and ${seen('l')})
           limit $3))`,
        [horizon, snapshots, BATCH_ROWS],
      ),
    )
    return { changes, events, watermarks: watermarks.rowCount ?? 0 }
  } catch (error) {
    signal.throwIfAborted()
    throw translate(error, 'Pruning the changelog', 'POSTGRES_FAILED')
  }
}

/** SQL: every snapshot of $2 sees the row. */
function seen(row: string): string {
  return `(select bool_and(pg_visible_in_snapshot(${row}.xid, s::pg_snapshot)) from unnest($2::text[]) s)`
}

async function inBatches(signal: AbortSignal, batch: () => Promise<{ rowCount: number | null }>): Promise<number> {
  let total = 0
  for (let n = 0; n < BATCHES_MAX; n++) {
    signal.throwIfAborted()
    const deleted = (await batch()).rowCount ?? 0
    total += deleted
    if (deleted < BATCH_ROWS) break
  }
  return total
}
