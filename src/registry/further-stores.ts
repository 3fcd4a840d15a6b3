import { type Db, select } from './transaction.ts'

export interface FurtherStoreRow {
  /** Without credentials. */
  store: string
  name: string
  state: 'new' | 'current' | 'degraded' | 'removed'
  since: Date
  /** What its pointer was last set to. */
  flipId: string | null
  tag: string | null
  why: string | null
}

/** How the stores beside a dataset's first stand, those that the definition does not name any more too. */
export async function furtherStores(db: Db, dataset: string): Promise<FurtherStoreRow[]> {
  return select<FurtherStoreRow>(
    db,
    `select store, name, state, since, flip_id as "flipId", tag, why
       from snapflip.further_stores where dataset = $1 order by name, store`,
    [dataset],
  )
}
