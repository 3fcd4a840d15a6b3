import { type Db, select } from './transaction.ts'
import { VERSION_COLUMNS, type VersionRow } from './version.ts'

/** All versions of the dataset that were ever allocated, newest first. */
export async function versions(db: Db, dataset: string): Promise<VersionRow[]> {
  return select<VersionRow>(
    db,
    `select ${VERSION_COLUMNS} from snapflip.versions where dataset = $1 order by ordinal desc`,
    [dataset],
  )
}
