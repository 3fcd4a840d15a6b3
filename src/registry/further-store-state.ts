import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

interface Place {
  dataset: string
  name: string
  /** Without credentials. */
  url: string
}

/**
 * Records that a further store's pointer is what the first store's is. The same flip again, and not degraded: nothing happens.
 *
 * @param lacks what it still has not, to be brought there later, or null. With it, a store that is degraded stays so, in the same incident.
 */
export async function recordFollowed(
  db: Db,
  {
    dataset,
    name,
    url,
    flipId,
    tag,
    actor,
    lacks = null,
  }: Place & { flipId: string | null; tag: string; actor: string | null; lacks?: string | null },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { rows } = await client.query<{ state: string }>(FOLLOWED, [dataset, url, name, flipId, tag, lacks])
    const [changed] = rows
    if (changed === undefined) return
    const detail = { store: url, name }
    await record(client, { dataset, actor, kind: 'store.followed', version: tag, detail: { ...detail, flipId } })
    if (changed.state !== 'degraded') return
    await record(client, { dataset, actor, kind: 'store.degraded', detail: { ...detail, why: lacks } })
  })
}

/** Records that a further store could not be brought to what the first one says. @returns since when that is so. */
export async function recordDegraded(
  db: Db,
  { dataset, name, url, why }: Place & { why: string },
): Promise<{ since: Date; isNew: boolean }> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { rows } = await client.query<{ since: Date }>(DEGRADED, [dataset, url, name, why])
    const [changed] = rows
    if (changed !== undefined) {
      await record(client, { dataset, actor: null, kind: 'store.degraded', detail: { store: url, name, why } })
      return { since: changed.since, isNew: true }
    }
    const known = await client.query<{ since: Date }>(
      'update snapflip.further_stores set why = $3 where dataset = $1 and store = $2 returning since',
      [dataset, url, why],
    )
    return { since: known.rows[0]?.since as Date, isNew: false }
  })
}

const FOLLOWED = `
  insert into snapflip.further_stores as known (dataset, store, name, state, flip_id, tag, why)
  select $1, $2, $3, coalesce(max(state), 'current'), $4, $5, $6
    from snapflip.further_stores
   where dataset = $1 and store = $2 and state = 'degraded' and $6::text is not null
  on conflict (dataset, store) do update
     set state = excluded.state, flip_id = excluded.flip_id, tag = excluded.tag, name = excluded.name, why = excluded.why,
         since = case when known.state = excluded.state then known.since else clock_timestamp() end
   where known.state <> excluded.state or known.flip_id is distinct from excluded.flip_id or known.tag is distinct from excluded.tag
  returning state`

const DEGRADED = `
  insert into snapflip.further_stores as known (dataset, store, name, state, why)
  values ($1, $2, $3, 'degraded', $4)
  on conflict (dataset, store) do update
     set state = 'degraded', since = clock_timestamp(), why = excluded.why
   where known.state <> 'degraded'
  returning since`
