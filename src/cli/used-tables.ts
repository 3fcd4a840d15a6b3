import type { Client, Pool } from 'pg'
import type { DatasetDefinition, IndexDefinition } from '../../schemas/config.ts'
import type { Session } from './session.ts'

/** Tables whose capture other datasets need: those of this definition file, and those the registry knows from others, unless detached. */
export async function usedElsewhere(
  session: Session,
  client: Client,
  registry: Pool,
  dataset: string,
): Promise<Set<string>> {
  const { datasets } = await session.config()
  const { rows } = await registry.query<{ dataset: string; body: DatasetDefinition }>(APPLIED)
  const others = new Map<string, DatasetDefinition>(rows.map(({ dataset, body }) => [dataset, body]))
  for (const [name, definition] of Object.entries(datasets)) if (others.has(name)) others.set(name, definition)
  others.delete(dataset)
  const indexes = [...others.values()].flatMap((definition) => Object.values(definition.indexes))
  return new Set(await tableNames(client, indexes))
}

/** The last definition of each dataset that was not detached since. Relies on the primary key, and on the index of history by dataset. */
const APPLIED = `
  select distinct on (d.dataset) d.dataset, d.body
    from snapflip.definitions d
   where not exists (
     select from snapflip.history h
      where h.dataset = d.dataset and h.kind = 'capture.detached'
        and h.seq > coalesce((
          select max(a.seq) from snapflip.history a
           where a.dataset = d.dataset and a.kind in ('definition.applied', 'capture.attached')
        ), 0)
   )
   order by d.dataset, d.number desc`

/** As PostgreSQL writes them; tables that are gone are left out. */
export async function tableNames(client: Client, indexes: readonly IndexDefinition[]): Promise<string[]> {
  const given = indexes.flatMap((index) => ('events' in index || index.capture === 'none' ? [] : [index.from]))
  const { rows } = await client.query<{ name: string }>(
    `select distinct format('%I.%I', n.nspname, c.relname) as name
       from unnest($1::text[]) as given join pg_class c on c.oid = to_regclass(given) join pg_namespace n on n.oid = c.relnamespace
      order by name`,
    [given],
  )
  return rows.map((row) => row.name)
}
