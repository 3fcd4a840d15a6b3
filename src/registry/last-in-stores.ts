import type { Epoch } from '../../schemas/pointer.ts'
import { type Db, select } from './transaction.ts'

/** The last flip that a store's pointer is known to have shown. */
export interface LastInStore {
  dataset: string
  /** Of the store, without credentials. */
  url: string
  flipId: string
  epoch: Epoch
}

/** Of each store that these datasets are published to, the further ones too, and not of those that are detached; in one statement. */
export async function lastInStores(db: Db, datasets: readonly string[]): Promise<LastInStore[]> {
  const rows = await select<{ dataset: string; url: string; flipId: string; registry: string; breakGlass: string }>(
    db,
    `select name as dataset, coalesce(store, detail ->> 'store') as url, id as "flipId", epoch as registry, epoch_break_glass as "breakGlass"
       from snapflip.datasets cross join lateral (
         select id, epoch, epoch_break_glass, detail
           from snapflip.flip_intents
          where dataset = name and outcome = 'confirmed'
          order by epoch desc, epoch_break_glass desc
          limit 1
       ) as last
      where name = any ($1) and detached_at is null and epoch > store_epoch
      union all
     select dataset, further.store, id, epoch, epoch_break_glass
       from snapflip.further_stores as further join snapflip.flip_intents using (dataset)
      where dataset = any ($1) and further.state in ('current', 'degraded') and id = further.flip_id::uuid
        and exists (select from snapflip.datasets as attached where attached.name = dataset and detached_at is null)`,
    [datasets],
  )
  return rows.map(({ registry, breakGlass, ...row }) => ({
    ...row,
    epoch: { registry: Number(registry), breakGlass: Number(breakGlass) },
  }))
}
