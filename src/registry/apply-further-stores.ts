import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/** Records which stores the dataset is published to beside its first. What lies in one that is not named any more stays there, and is followed no more. */
export async function applyFurtherStores(
  db: Db,
  { dataset, stores, by }: { dataset: string; stores: ReadonlyArray<{ name: string; url: string }>; by: string | null },
): Promise<{ added: string[]; removed: string[] }> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const [names, urls] = [stores.map(({ name }) => name), stores.map(({ url }) => url)]
    const added = (await client.query<{ name: string }>(ADD, [dataset, urls, names])).rows.map(({ name }) => name)
    const removed = (await client.query<{ name: string }>(REMOVE, [dataset, urls])).rows.map(({ name }) => name)
    if (added.length + removed.length > 0)
      await record(client, { dataset, actor: by, kind: 'stores.applied', detail: { added, removed } })
    return { added, removed }
  })
}

const ADD = `
  insert into snapflip.further_stores as known (dataset, store, name, state)
  select $1, store, name, 'new' from unnest($2::text[], $3::text[]) as declared (store, name)
  on conflict (dataset, store) do update
     set name = excluded.name, state = case when known.state = 'removed' then 'new' else known.state end,
         since = case when known.state = 'removed' then clock_timestamp() else known.since end
   where known.name <> excluded.name or known.state = 'removed'
  returning name`

const REMOVE = `
  update snapflip.further_stores
     set state = 'removed', since = clock_timestamp()
   where dataset = $1 and state <> 'removed' and not store = any ($2)
  returning name`
