import { type Db, select } from './transaction.ts'

/** A definition that was applied. */
export interface PolicyVersion {
  number: number
  digest: string
  appliedAt: Date
  appliedBy: string
}

/** The definition that was in force at a moment; null before the first. By the primary key of definitions. */
export async function policyAt(db: Db, dataset: string, at: Date): Promise<PolicyVersion | null> {
  const rows = await select<PolicyVersion>(
    db,
    `select number, digest, applied_at as "appliedAt", applied_by as "appliedBy" from snapflip.definitions
      where dataset = $1 and applied_at <= $2 order by number desc limit 1`,
    [dataset, at],
  )
  return rows[0] ?? null
}
