import { WORKER_CALLS, WORKER_WRITES } from './grants.ts'
import { type Db, select } from './transaction.ts'

/**
 * Which rights of a worker the connection's role does not have; the statements that give them are those of `grantsSql`.
 *
 * @param tables sources, as the definition names them; those that are not there are the definition's fault.
 */
export async function lackingGrants(
  db: Db,
  { tables }: { tables: readonly string[] },
): Promise<{ role: string; lacking: string[] }> {
  const writes = Object.entries(WORKER_WRITES).flatMap(([rights, names]) =>
    names.flatMap((name) => rights.split(', ').map((right) => ({ name: `snapflip.${name}`, right }))),
  )
  const [found] = await select<{ role: string; lacking: string[] | null }>(db, LACKING, [
    writes.map(({ name }) => name),
    writes.map(({ right }) => right),
    tables,
    WORKER_CALLS,
  ])
  return { role: found?.role ?? 'unknown', lacking: found?.lacking ?? [] }
}

const LACKING = `
  select current_user as role, array_agg(needed order by needed) filter (where not has) as lacking
    from (
      select right_ || ' on ' || name as needed, has_table_privilege(name, right_) as has
        from unnest($1::text[], $2::text[]) as writes (name, right_)
      union all
      select 'select on snapflip.' || relname, has_table_privilege(c.oid, 'select')
        from pg_class c
       where c.relnamespace = 'snapflip'::regnamespace and c.relkind in ('r', 'p')
      union all
      select 'select on ' || given, has_table_privilege(c.oid, 'select')
        from unnest($3::text[]) as given join pg_class c on c.oid = to_regclass(given)
      union all
      select 'update (epoch_registry) on snapflip.datasets', has_column_privilege('snapflip.datasets', 'epoch_registry', 'update')
      union all
      select 'execute on ' || split_part(call, '(', 1), has_function_privilege(call, 'execute')
        from unnest($4::text[]) as calls (call)
      union all
      select 'temporary on the database', has_database_privilege(current_database(), 'temporary')
    ) as rights`
