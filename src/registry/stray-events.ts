import { type Db, select } from './transaction.ts'

export interface StrayEvents {
  dataset: string
  index: string
  events: number
}

/**
 * Events that no applied definition has an index for: appended under a mistyped name, or before `apply`. Nothing builds from them and nothing
 * prunes them. Finds the names by skipping along the index events_key, whatever the number of events.
 */
export async function strayEvents(db: Db): Promise<StrayEvents[]> {
  return select<StrayEvents>(
    db,
    `with recursive named as (
       (select dataset, index from snapflip.events order by dataset, index limit 1)
       union all
       select next.dataset, next.index
         from named, lateral (
           select dataset, index from snapflip.events
            where (dataset, index) > (named.dataset, named.index) order by dataset, index limit 1
         ) next
     ), applied as (
       select distinct on (dataset) dataset, body from snapflip.definitions order by dataset, number desc
     )
     select named.dataset, named.index,
            (select count(*)::integer from snapflip.events where events.dataset = named.dataset and events.index = named.index) as events
       from named left join applied using (dataset)
      where (applied.body -> 'indexes' -> named.index ->> 'events') is distinct from 'true'`,
  )
}
