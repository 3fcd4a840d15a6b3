import type { GateResult } from '../../schemas/refresh.ts'
import { type Db, select } from './transaction.ts'

export type KeptGateResult = GateResult & { at: Date }

/** What the gates found of a version, in the order they ran. */
export async function gateResults(db: Db, dataset: string, tag: string): Promise<KeptGateResult[]> {
  return select<KeptGateResult>(
    db,
    `select gate, index, verdict, summary, actual, limit_ as "limit", sample_keys as "sampleKeys", at
       from snapflip.gate_results
      where dataset = $1 and tag = $2
      order by position`,
    [dataset, tag],
  )
}
