import type { ClientBase } from 'pg'

/** Of the changelog since a watermark, whatever the dataset: bounds what one look costs: 30 to 160 ms where that many wait. */
export const LAG_CHANGES_MAX = 100_000

export interface SourceLag {
  changes: number
  delayingTransactions: number
}

/**
 * How far a dataset's sources are ahead of a watermark of this database: changes and events that it does not see, by the indexes on xid; and
 * transactions that were open in it, hold a lock for writing on one of the tables and are open still. Needs no right to see other sessions.
 *
 * @param tables as the definition names them; those that are not captured count for nothing.
 * @param snapshot of the watermark, as text.
 */
export async function measureLag(
  client: ClientBase,
  { dataset, tables, snapshot }: { dataset: string; tables: readonly string[]; snapshot: string },
): Promise<SourceLag> {
  const { rows } = await client.query<{ changes: number; events: number; delaying: number }>(MEASURE, [
    dataset,
    tables,
    snapshot,
    LAG_CHANGES_MAX,
  ])
  const { changes = 0, events = 0, delaying = 0 } = rows[0] ?? {}
  return { changes: changes + events, delayingTransactions: delaying }
}

const MEASURE = `
  with tables as materialized (
    select distinct unnest(c.members || c.relid) as relid from snapflip.captures c
     where c.relid = any (select to_regclass(t)::oid from unnest($2::text[]) as t)
    union
    select 'snapflip.events'::regclass::oid where exists (select from snapflip.events where dataset = $1)
  ), later as materialized (
    select relid from snapflip.changelog
     where xid >= pg_snapshot_xmin($3::pg_snapshot) and not pg_visible_in_snapshot(xid, $3::pg_snapshot) limit $4
  ), appended as materialized (
    select dataset from snapflip.events
     where xid >= pg_snapshot_xmin($3::pg_snapshot) and not pg_visible_in_snapshot(xid, $3::pg_snapshot) limit $4
  ), writing as (
    select distinct l.pid from pg_locks l
     where l.locktype = 'relation' and l.granted
       and l.database = (select oid from pg_database where datname = current_database())
       and l.relation in (select relid from tables)
       and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  )
  select (select count(*)::integer from later where relid in (select relid from tables)) as changes,
         (select count(*)::integer from appended where dataset = $1) as events,
         (select count(distinct w.pid)::integer
            from writing w join pg_locks l on l.pid = w.pid and l.locktype = 'transactionid' and l.granted
           where l.transactionid in (select x::xid from pg_snapshot_xip($3::pg_snapshot) x)) as delaying`
