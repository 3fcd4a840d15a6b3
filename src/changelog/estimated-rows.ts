import type { ClientBase } from 'pg'

/** How many rows PostgreSQL's own statistics have for these tables; 0 where they were never analysed, and for views. */
export async function estimatedRows(client: ClientBase, relids: readonly number[]): Promise<number> {
  const { rows } = await client.query<{ tuples: number }>(
    'select sum(greatest(reltuples, 0))::float8 as tuples from pg_class where oid = any ($1::oid[])',
    [relids],
  )
  return rows[0]?.tuples ?? 0
}
