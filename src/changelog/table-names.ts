import type { ClientBase, Pool } from 'pg'

/** Tables and views as PostgreSQL writes their names, given as a definition has them; those that are not there are left out. */
export async function namesOfTables(client: ClientBase | Pool, given: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `select distinct format('%I.%I', n.nspname, c.relname) as name
       from unnest($1::text[]) as given join pg_class c on c.oid = to_regclass(given) join pg_namespace n on n.oid = c.relnamespace
      order by name`,
    [given],
  )
  return rows.map((row) => row.name)
}
