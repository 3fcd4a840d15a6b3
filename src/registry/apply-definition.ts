import type { DatasetDefinition } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'
import { whoMay } from '../core/roles.ts'
import { forbidden } from './authorize.ts'
import { type Db, select, transaction } from './transaction.ts'

interface Applied {
  /** `nobody`: under its roles nobody who can log in could ever apply another. */
  outcome: 'applied' | 'same' | 'forbidden' | 'nobody'
  actor: string
  needed: string | null
  has: string | null
  /** The one in force before. */
  policy: number | null
  number: number
}

/**
 * Makes the definition the dataset's current one, as whoever is connected: a new policy version when it differs from the last, otherwise nothing.
 * The policy in force decides who may. A detached dataset is so no more.
 *
 * @returns the current definition's number, and whether this call made it.
 * @throws SnapflipError FORBIDDEN, or CONFIG_INVALID when its roles would leave nobody who may apply the next.
 */
export async function applyDefinition(
  db: Db,
  { dataset, definition }: { dataset: string; definition: DatasetDefinition },
): Promise<{ number: number; changed: boolean }> {
  // The verdict is read after the commit: the entry of a refused apply stays.
  const applied = await transaction(db, async (client) => {
    const { rows } = await client.query<Applied>('select * from snapflip.apply_definition($1, $2)', [
      dataset,
      JSON.stringify(definition),
    ])
    return rows[0]
  })
  if (applied === undefined) throw new Error(`snapflip.apply_definition returned nothing for ${dataset}`)
  const { outcome, number } = applied
  if (outcome === 'forbidden') throw forbidden({ dataset, action: 'apply' }, applied)
  if (outcome === 'nobody') throw lockedOut(dataset, definition)
  return { number, changed: outcome === 'applied' }
}

/** @throws SnapflipError CONFIG_INVALID when its roles would leave nobody who can log in and may apply the next definition. */
export async function requireSomebody(
  db: Db,
  { dataset, definition }: { dataset: string; definition: DatasetDefinition },
): Promise<void> {
  const [found] = await select<{ somebody: boolean }>(db, 'select snapflip.somebody_may_apply($1) as somebody', [
    JSON.stringify(definition),
  ])
  if (found?.somebody !== true) throw lockedOut(dataset, definition)
}

function lockedOut(dataset: string, definition: DatasetDefinition): SnapflipError {
  const named = whoMay(definition, 'apply') ?? []
  return new SnapflipError(
    'CONFIG_INVALID',
    `datasets.${dataset}.roles: expected a login of PostgreSQL among those who may apply the next definition, found ${named.join(', ') || 'nobody'}, ` +
      'none of which can log in. Name one that can; nothing was applied.',
    { dataset, named },
  )
}
