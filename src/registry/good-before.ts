import type { Pointer } from '../../schemas/pointer.ts'
import { cutShort } from './flips.ts'
import type { Db } from './transaction.ts'
import { versions } from './versions.ts'

/**
 * The newest retained version that came before another one, and which a rollback may take: those whose bake was cut short only where there is no
 * other. Null: there is none.
 */
export async function goodBefore(
  db: Db,
  { dataset, from, pointer }: { dataset: string; from: string; pointer: Pick<Pointer, 'retired' | 'quarantined'> },
): Promise<string | null> {
  const [left] = await versions(db, dataset, { tags: [from] })
  const retained = await versions(db, dataset, { states: ['retained'] })
  const forbidden = [...pointer.retired, ...pointer.quarantined]
  const good = retained.filter((row) => row.ordinal < (left?.ordinal ?? 0) && !forbidden.includes(row.tag))
  const cut = await cutShort(db, dataset)
  return (good.find((row) => !cut.has(row.tag)) ?? good[0])?.tag ?? null
}
