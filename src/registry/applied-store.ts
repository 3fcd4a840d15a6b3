import { notApplied } from './dataset-lock.ts'
import { type Db, select } from './transaction.ts'

interface AppliedStore {
  /** Without credentials; null before the first `apply` and the first flip. */
  url: string | null
  /** Flips up to this epoch were made in another store. */
  storeEpoch: number
  /** The last epoch issued. */
  epochRegistry: number
  /** Applied, and not flipped in yet: what the registry knows of versions is of the store before. */
  isNew: boolean
}

/** Where the registry knows the dataset's versions to be. @throws SnapflipError NOT_APPLIED when it does not know the dataset. */
export async function appliedStore(db: Db, dataset: string): Promise<AppliedStore> {
  const rows = await select<{ url: string | null; storeEpoch: string; epochRegistry: string; isNew: boolean }>(
    db,
    `select coalesce(store, last_flip.url) as url, store_epoch as "storeEpoch", epoch_registry as "epochRegistry",
            coalesce(last_flip.epoch <= store_epoch, false) as "isNew"
       from snapflip.datasets left join lateral (
         select epoch, detail ->> 'store' as url
           from snapflip.flip_intents
          where dataset = name and outcome = 'confirmed'
          order by epoch desc, epoch_break_glass desc
          limit 1
       ) as last_flip on true
      where name = $1`,
    [dataset],
  )
  const row = rows[0]
  if (row === undefined) throw notApplied(dataset, 'found a registry that does not know it')
  return { ...row, storeEpoch: Number(row.storeEpoch), epochRegistry: Number(row.epochRegistry) }
}
