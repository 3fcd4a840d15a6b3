import type { DatasetDefinition } from '../../schemas/config.ts'
import { type DefinitionChange, definitionChanges } from '../core/definition-changes.ts'
import { type Db, select } from './transaction.ts'

/** One apply that changed something. */
export interface PolicyVersion {
  number: number
  /** SHA-256 (hex) of its jsonb text. */
  digest: string
  appliedAt: Date
  appliedBy: string
  definition: DatasetDefinition
  /** Against the one before; of the first, everything. */
  changes: DefinitionChange[]
}

/** The dataset's policy versions, newest first. Rows are never changed, so what changed between two of them is computed when it is asked for. */
export async function policyVersions(db: Db, dataset: string): Promise<PolicyVersion[]> {
  const rows = await select<Omit<PolicyVersion, 'changes'>>(
    db,
    `select number, digest, applied_at as "appliedAt", applied_by as "appliedBy", body as definition
       from snapflip.definitions
      where dataset = $1
      order by number desc`,
    [dataset],
  )
  return rows.map((row, at) => ({ ...row, changes: definitionChanges(rows[at + 1]?.definition ?? {}, row.definition) }))
}
