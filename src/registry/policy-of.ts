import type { RefreshRow } from './refreshes.ts'
import { type Db, select } from './transaction.ts'

/** A definition that was applied. */
export interface PolicyVersion {
  number: number
  digest: string
  appliedAt: Date
  appliedBy: string
}

/** The definition that a refresh ran under, as it recorded it; one from before that was recorded: what was in force when it opened. */
export async function policyOf(
  db: Db,
  { dataset, policyNumber, openedAt }: Pick<RefreshRow, 'dataset' | 'policyNumber' | 'openedAt'>,
): Promise<PolicyVersion | null> {
  const rows = await select<PolicyVersion>(
    db,
    `select number, digest, applied_at as "appliedAt", applied_by as "appliedBy" from snapflip.definitions
      where dataset = $1 and case when $2::integer is null then applied_at <= $3 else number = $2 end
      order by number desc limit 1`,
    [dataset, policyNumber, openedAt],
  )
  return rows[0] ?? null
}
