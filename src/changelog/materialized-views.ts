import type { ClientBase } from 'pg'
import { SnapflipError } from '../core/errors.ts'
import { type Source, tablesOf } from './source.ts'

/**
 * Throws SOURCE_CHANGED when a materialized view that the sources read, also through views, was refreshed after the transaction's snapshot was
 * taken. REFRESH swaps the storage for one whose rows every snapshot sees (tried on 15 and 18): what was read then is newer than the watermark.
 * LOCK TABLE takes no materialized view, so this is asked after reading, which locks it: the snapshot has the storage it began with,
 * pg_relation_filenode that of now. (REFRESH … CONCURRENTLY changes rows as anybody does.)
 */
export async function expectNotRefreshed(client: ClientBase, sources: readonly Source[]): Promise<void> {
  const views = tablesOf(sources).filter(({ kind }) => kind === 'm' || kind === 'v')
  if (views.length === 0) return
  const { rows } = await client.query<{ name: string }>(
    `with recursive reads (oid) as (
       select unnest($1::oid[])
       union
       select d.refobjid
       from reads r
       join pg_class c on c.oid = r.oid and c.relkind = 'v'
       join pg_rewrite w on w.ev_class = r.oid
       join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
     )
     select format('%I.%I', n.nspname, c.relname) as name
     from reads r join pg_class c on c.oid = r.oid join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'm' and c.relfilenode is distinct from pg_relation_filenode(c.oid) limit 1`,
    [views.map(({ relid }) => relid)],
  )
  const table = rows[0]?.name
  if (table === undefined) return
  throw new SnapflipError(
    'SOURCE_CHANGED',
    `Expected materialized view ${table} as it was at the watermark; found that it was refreshed while it was read. The build is tried again; REFRESH … CONCURRENTLY would not disturb it.`,
    { table, reason: `${table} was refreshed` },
  )
}
