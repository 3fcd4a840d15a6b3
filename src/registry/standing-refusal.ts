import type { Watermark } from '../../schemas/manifest.ts'
import type { RefreshStatus } from '../../schemas/refresh.ts'
import { type Db, select } from './transaction.ts'

/** A version that was refused, and how its refresh told so. */
export interface Refusal {
  tag: string
  status: Extract<RefreshStatus, 'HELD' | 'REJECTED'>
  summary: string
  digest: string
  watermark: Watermark
  /** Of each index when it was built. */
  shapes: Record<string, string>
}

/**
 * The newest refusal of a version upon this parent that the same content would get again: neither the definition nor a waiver came since. One
 * that said nothing of the content does not stand: a gate that was itself broken, a store that did not give back what was written, or nobody who
 * answered in time.
 */
export async function standingRefusal(
  db: Db,
  { dataset, parent }: { dataset: string; parent: string | null },
): Promise<Refusal | null> {
  const rows = await select<Refusal>(
    db,
    `select index_versions.tag, case state when 'held' then 'HELD' else 'REJECTED' end as status,
            coalesce(summary, 'see its evidence') as summary, digest, watermark,
            (select coalesce(jsonb_object_agg(key, value ->> 'shape'), '{}') from jsonb_each(counts)) as shapes
       from snapflip.index_versions left join snapflip.refresh_runs on refresh_runs.id = refresh_id
      where index_versions.dataset = $1 and parent is not distinct from $2 and state in ('held', 'rejected')
        and watermark is not null
        and state_at > (select max(applied_at) from snapflip.definitions where definitions.dataset = $1)
        and not exists (select from snapflip.waivers where waivers.dataset = $1 and since > state_at)
        and not exists (
          select from snapflip.gate_verdicts as result
           where result.dataset = $1 and result.tag = index_versions.tag and verdict in ('hold', 'reject')
             and (gate = 'integrity' or actual ? 'broken')
        )
        and not exists (
          select from snapflip.approval_requests
           where approval_requests.refresh_id = index_versions.refresh_id and decision = 'expired'
        )
      order by ordinal desc
      limit 1`,
    [dataset, parent],
  )
  return rows[0] ?? null
}
