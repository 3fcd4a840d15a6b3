import type { Pointer } from '../../schemas/pointer.ts'
import { type Db, select } from './transaction.ts'

/**
 * Whether the registry had exactly this hold and this pin of a pointer, and they were lifted: a pointer that still has them has lost that. What it never
 * knew, restored from before it say, was not lifted.
 */
export async function liftedOf(
  db: Db,
  dataset: string,
  { hold, pin }: Pick<Pointer, 'hold' | 'pin'>,
): Promise<{ hold: boolean; pin: boolean }> {
  const [row] = await select<{ hold: boolean; pin: boolean }>(db, LIFTED, [
    dataset,
    ...[hold?.by, hold?.reason, hold?.at],
    ...[pin?.version.tag, pin?.until, pin?.by, pin?.reason],
  ])
  return row ?? { hold: false, pin: false }
}

const LIFTED = `
  select exists (
           select from snapflip.dataset_holds
            where dataset = $1 and by = $2 and reason = $3 and date_trunc('milliseconds', since) = $4 and lifted_at is not null
         ) as hold,
         exists (
           select from snapflip.pins
            where dataset = $1 and tag = $5 and date_trunc('milliseconds', until) = $6 and by = $7 and reason = $8 and lifted_at is not null
         ) as pin`
