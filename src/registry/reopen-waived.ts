import { lockDataset } from './dataset-lock.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { changeState } from './set-version-state.ts'
import { takeOver } from './take-over.ts'
import { type Db, transaction } from './transaction.ts'
import { type VersionRow, version } from './version.ts'

/**
 * The newest version upon this parent that every gate which refused it was waived for becomes the refresh's: sealed, to be judged again. So what a
 * person looked at and let pass is what goes on, however far the source has moved meanwhile; but not where the definition is another one by now, nor
 * after a person's no to it. Null: there is none, or the refresh has a version already.
 *
 * @throws SnapflipError SUPERSEDED when the refresh is closed.
 */
export async function reopenWaived(
  db: Db,
  { dataset, refreshId, parent }: { dataset: string; refreshId: string; parent: string | null },
): Promise<VersionRow | null> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    await requireOpenRefresh(client, dataset, refreshId)
    const { rows } = await client.query<{ tag: string }>(WAIVED, [dataset, parent, refreshId])
    const tag = rows[0]?.tag
    if (tag === undefined) return null
    const from = await changeState(client, { dataset, tag, to: 'sealed' })
    // With their waivers they no longer stand against what it is judged to be now.
    await client.query(CONSUME, [dataset, tag])
    await takeOver(client, { dataset, tag, refreshId, from })
    return version(client, dataset, tag)
  })
}

/** Of result: the waiver that lasts longest, if one is in force. */
const IN_FORCE = `
  select waivers.id from snapflip.waivers
   where waivers.dataset = index_versions.dataset and waivers.digest = index_versions.digest and waivers.gate = result.gate
     and until > clock_timestamp()
   order by until desc, id desc
   limit 1`

const WAIVED = `
  select tag
    from snapflip.index_versions
   where dataset = $1 and parent is not distinct from $2 and state in ('held', 'rejected')
     and not exists (select from snapflip.index_versions as own where own.refresh_id = $3)
     and state_at > (select max(applied_at) from snapflip.definitions where definitions.dataset = $1)
     and not exists (
       select from snapflip.approval_requests as asked
        where asked.dataset = $1 and asked.tag = index_versions.tag and decision in ('rejected', 'expired')
     )
     and (
       select bool_and(exists (${IN_FORCE}))
         from snapflip.gate_verdicts as result
        where result.dataset = index_versions.dataset and result.tag = index_versions.tag and verdict in ('hold', 'reject')
     )
   order by ordinal desc
   limit 1`

const CONSUME = `
  update snapflip.gate_verdicts as result
     set waiver = (${IN_FORCE})
    from snapflip.index_versions
   where index_versions.dataset = $1 and index_versions.tag = $2 and result.dataset = $1 and result.tag = $2
     and verdict in ('hold', 'reject')`
