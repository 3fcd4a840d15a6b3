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
 * one of these sees, then events that a later event of their key replaces, and the last one where it deletes the key. So what is left of an
 * events index is what it holds, and it can always be rebuilt. Watermarks younger than `youngMs` count as kept. Deletes nothing when `keep` is
 * empty or names a watermark that is not there.
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
    // Snapshots are nested: of two, the one with the lower xmax was taken first and sees no more than the other; of two with the same, the one
    // with more still open. So the earliest decides.
    const { rows } = await client.query<{ horizon: string | null; found: string }>(
      `with kept as (
         select id, snapshot, pg_snapshot_xmax(snapshot) as xmax from snapflip.watermarks
         where id = any ($1::uuid[]) or at > clock_timestamp() - make_interval(secs => $2::float8 / 1000)
       )
       select (select snapshot::text from kept order by xmax, (select count(*) from pg_snapshot_xip(snapshot)) desc limit 1) as horizon,
         (select count(*) from kept where id = any ($1::uuid[])) as found`,
      [keep, youngMs],
    )
    const { horizon, found } = rows[0] ?? {}
    if (horizon == null || Number(found) !== new Set(keep).size) return none
    const watermarks = await client.query(
      `delete from snapflip.watermarks
       where pg_snapshot_xmax(snapshot) <= pg_snapshot_xmax($1::pg_snapshot) and id <> all ($2::uuid[])
         and at <= clock_timestamp() - make_interval(secs => $3::float8 / 1000)`,
      [horizon, keep, youngMs],
    )
    // By the index on xid.
    const changes = await inBatches(signal, () =>
      client.query(
        `delete from snapflip.changelog where ctid = any (array(
           select ctid from snapflip.changelog
           where xid < pg_snapshot_xmax($1::pg_snapshot) and pg_visible_in_snapshot(xid, $1::pg_snapshot) order by xid limit $2))`,
        [horizon, BATCH_ROWS],
      ),
    )
    return { changes, events: await compactEvents(client, horizon, signal), watermarks: watermarks.rowCount ?? 0 }
  } catch (error) {
    signal.throwIfAborted()
    throw translate(error, 'Pruning the changelog', 'POSTGRES_FAILED')
  }
}

/**
 * Goes through the events that the horizon sees and the one before did not: costs what was appended since, not what there is. The horizon is
 * noted last, so that what a crash leaves undone is gone through again.
 */
async function compactEvents(client: ClientBase, horizon: string, signal: AbortSignal): Promise<number> {
  const former = await client.query<{ snapshot: string; xmin: string }>(
    'select snapshot::text, pg_snapshot_xmin(snapshot)::text as xmin from snapflip.compacted',
  )
  const { snapshot: from = null, xmin = '0' } = former.rows[0] ?? {}
  let last = { xid: xmin, seq: '0' }
  let total = 0
  for (let n = 0; n < BATCHES_MAX; n++) {
    signal.throwIfAborted()
    const { rows } = await client.query<{ xid: string; seq: string; gone: number; found: number }>(COMPACT, [
      horizon,
      from,
      last.xid,
      last.seq,
      BATCH_ROWS,
    ])
    const [batch] = rows
    total += batch?.gone ?? 0
    if (batch !== undefined && batch.found === BATCH_ROWS) {
      last = batch
      continue
    }
    // Unless these transaction numbers were cleared away meanwhile, and the watermark with them.
    await client.query(
      `insert into snapflip.compacted (snapshot)
       select $1::text::pg_snapshot where exists (select from snapflip.watermarks where snapshot::text = $1::text)
       on conflict (id) do update set snapshot = excluded.snapshot
       where pg_snapshot_xmax(compacted.snapshot) <= pg_snapshot_xmax(excluded.snapshot)`,
      [horizon],
    )
    break
  }
  return total
}

/**
 * For one key the order of seq is that of commit: what is before an event that the horizon sees is seen by it too. An event that deletes its
 * key goes in the same statement as those before it, or one of these would be the last again. By the index on (xid, seq), then on the key.
 */
const COMPACT = `
  with recent as materialized (
    select xid, seq, dataset, index, key from snapflip.events
     where (xid, seq) > ($3::xid8, $4::bigint) and xid < pg_snapshot_xmax($1::pg_snapshot)
       and pg_visible_in_snapshot(xid, $1::pg_snapshot)
       and ($2::text is null or not pg_visible_in_snapshot(xid, $2::pg_snapshot))
     order by xid, seq limit $5
  ), last as (
    select dataset, index, key, max(seq) as seq from recent group by dataset, index, key
  ), gone as (
    delete from snapflip.events e using last
     where e.dataset = last.dataset and e.index = last.index and e.key = last.key and e.seq <= last.seq
       and (e.seq < last.seq or e.value is null)
    returning e.seq
  )
  select xid::text, seq::text, (select count(*) from gone)::integer as gone, (select count(*) from recent)::integer as found
    from recent order by recent.xid desc, recent.seq desc limit 1`

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
