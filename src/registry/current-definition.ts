import type { DatasetDefinition } from '../../schemas/config.ts'
import { notApplied } from './dataset-lock.ts'
import { type Db, select } from './transaction.ts'

export interface AppliedDefinition {
  number: number
  definition: DatasetDefinition
  /** SHA-256 (hex) of its jsonb text. */
  digest: string
  appliedAt: Date
  appliedBy: string
}

/** The definition applied last; null when there is none. */
export async function currentDefinition(db: Db, dataset: string): Promise<AppliedDefinition | null> {
  const rows = await select<AppliedDefinition>(
    db,
    `select number, body as definition, digest, applied_at as "appliedAt", applied_by as "appliedBy"
       from snapflip.definitions
      where dataset = $1
      order by number desc
      limit 1`,
    [dataset],
  )
  return rows[0] ?? null
}

/** Which policy version that is. */
export interface PolicyInForce {
  number: number
  /** SHA-256 (hex) of its jsonb text. */
  digest: string
}

/** @throws SnapflipError NOT_APPLIED unless exactly this definition was applied last, and not detached since. */
export async function requireApplied(
  db: Db,
  { dataset, definition }: { dataset: string; definition: DatasetDefinition },
): Promise<PolicyInForce> {
  const rows = await select<{ number: number; digest: string; same: boolean; detachedAt: Date | null }>(
    db,
    `select number, digest, body = $2::jsonb as same, detached_at as "detachedAt"
       from snapflip.definitions join snapflip.datasets on name = dataset
      where dataset = $1
      order by number desc
      limit 1`,
    [dataset, JSON.stringify(definition)],
  )
  const applied = rows[0]
  if (applied === undefined) throw notApplied(dataset, 'found none')
  if (applied.detachedAt !== null) throw notApplied(dataset, `found it detached at ${applied.detachedAt.toISOString()}`)
  if (!applied.same) throw notApplied(dataset, `found another (number ${applied.number}): it changed since`)
  return { number: applied.number, digest: applied.digest }
}
