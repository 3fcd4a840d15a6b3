import { type Db, select } from './transaction.ts'
import { VERSION_COLUMNS, type VersionRow } from './version.ts'

/**
 * What a refresh whose window closed has left for the next one, of each dataset: sealed, built upon what is active (or the first), and not tried
 * since by a refresh that failed. Rows of `dataset, tag`.
 */
export const KEPT = `
  select distinct on (kept.dataset) kept.dataset, kept.tag
    from snapflip.versions as kept join snapflip.refreshes as by on by.id = kept.refresh_id and by.status = 'KEPT'
   where kept.state = 'sealed'
     and kept.parent is not distinct from (
       select tag from snapflip.versions as active where active.dataset = kept.dataset and active.state = 'active'
     )
     and not exists (
       select from snapflip.refreshes as later
        where later.dataset = kept.dataset and later.opened_at > by.opened_at
          and later.tag = kept.tag and later.status = 'FAILED'
     )
   order by kept.dataset, kept.ordinal desc`

/** Null: there is none. */
export async function keptCandidate(db: Db, dataset: string): Promise<VersionRow | null> {
  const rows = await select<VersionRow>(
    db,
    `select ${VERSION_COLUMNS} from snapflip.versions where dataset = $1 and (dataset, tag) in (${KEPT})`,
    [dataset],
  )
  return rows[0] ?? null
}
