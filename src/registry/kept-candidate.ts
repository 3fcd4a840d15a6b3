import { lockDataset } from './dataset-lock.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { changeState } from './set-version-state.ts'
import { takeOver } from './take-over.ts'
import { type Db, select, transaction } from './transaction.ts'
import { VERSION_COLUMNS, type VersionRow } from './version.ts'

/**
 * What a refresh has left for the next one, of each dataset: sealed when its window closed, or rejected because nobody answered in time; built upon
 * what is active (or the first), and not tried since by a refresh that failed. The one that takes it up makes it its own: it is found by its tag.
 * Rows of `dataset, tag`.
 */
export const KEPT = `
  select distinct on (kept.dataset) kept.dataset, kept.tag
    from snapflip.index_versions as kept join snapflip.refresh_runs as by
       on by.dataset = kept.dataset and by.tag = kept.tag
   where (kept.state = 'sealed' or (kept.state = 'rejected' and by.id = kept.refresh_id))
     and (by.status = 'KEPT' or exists (
       select from snapflip.approval_requests as asked where asked.refresh_id = by.id and asked.decision = 'expired'
     ))
     and kept.parent is not distinct from (
       select tag from snapflip.index_versions as active where active.dataset = kept.dataset and active.state = 'active'
     )
     and not exists (
       select from snapflip.refresh_runs as later
        where later.dataset = kept.dataset and later.opened_at > by.opened_at
          and later.tag = kept.tag and later.status = 'FAILED'
     )
   order by kept.dataset, kept.ordinal desc`

/** Null: there is none. */
export async function keptCandidate(db: Db, dataset: string): Promise<VersionRow | null> {
  const rows = await select<VersionRow>(
    db,
    `select ${VERSION_COLUMNS} from snapflip.index_versions where dataset = $1 and (dataset, tag) in (${KEPT})`,
    [dataset],
  )
  return rows[0] ?? null
}

/**
 * Makes it the refresh's, which then asks for its approval and flips to it as if it had built it. False: it is not there any more, or the refresh has
 * a version already.
 *
 * @throws SnapflipError SUPERSEDED when the refresh is closed.
 */
export async function takeKept(
  db: Db,
  { dataset, tag, refreshId }: { dataset: string; tag: string; refreshId: string },
): Promise<boolean> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    await requireOpenRefresh(client, dataset, refreshId)
    const { rowCount } = await client.query(
      `select where $2 = (select tag from (${KEPT}) as kept where kept.dataset = $1)
          and not exists (select from snapflip.index_versions as own where own.refresh_id = $3)`,
      [dataset, tag, refreshId],
    )
    if (rowCount === 0) return false
    const from = await changeState(client, { dataset, tag, to: 'sealed' })
    await takeOver(client, { dataset, tag, refreshId, from })
    return true
  })
}
