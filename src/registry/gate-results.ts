import type { GateResult, Waived } from '../../schemas/refresh.ts'
import { type Db, select } from './transaction.ts'

export type KeptGateResult = GateResult & {
  at: Date
  /** The refresh that had it judged. */
  refreshId: string
  waived: Waived | null
}

/** What the gates found of a version, in the order they ran. */
export async function gateResults(db: Db, dataset: string, tag: string): Promise<KeptGateResult[]> {
  return select<KeptGateResult>(
    db,
    `select gate_verdicts.gate, index, verdict, summary, actual, limit_ as "limit", sample_keys as "sampleKeys", at,
            refresh_id as "refreshId",
            case when waivers.id is not null then jsonb_build_object(
              'by', by, 'reason', reason,
              'until', to_char(until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
            ) end as waived
       from snapflip.gate_verdicts left join snapflip.waivers on waivers.id = waiver
      where gate_verdicts.dataset = $1 and gate_verdicts.tag = $2
      order by position`,
    [dataset, tag],
  )
}
