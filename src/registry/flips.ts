import type { Epoch } from '../../schemas/pointer.ts'
import { type Db, select } from './transaction.ts'

/** A drill is a flip that rehearses a rollback, or the way back from one. */
export type FlipKind = 'flip' | 'rollback' | 'drill'
/** As read from the store: confirmed, it was made; refused, the pointer did not take it; failed, it never shall be. */
export type FlipResult = 'confirmed' | 'refused' | 'failed'
/** `cutShort`: by the next flip, or because it could not be watched. */
export type BakeOutcome = 'baked' | 'failed' | 'cutShort'

/** A flip, rollback or move of a drill, from its intent on. */
export interface FlipRow {
  flipId: string
  dataset: string
  kind: FlipKind
  from: string | null
  to: string
  /** The registry's part of the epoch. */
  epoch: number
  /** 0, save for a rollback that was made without the registry. */
  breakGlass: number
  refreshId: string | null
  reason: string | null
  actor: string
  intendedAt: Date
  /** Null: not known yet; read it from the store. */
  outcome: FlipResult | null
  settledAt: Date | null
  detail: Record<string, unknown> | null
  /** Null: no bake was declared. */
  bakeUntil: Date | null
  /** Null while it bakes. */
  bakeOutcome: BakeOutcome | null
}

/** In the order of epochs. */
export const NEWEST_FIRST = 'epoch desc, epoch_break_glass desc'

export function epochOf({ epoch, breakGlass }: FlipRow): Epoch {
  return { registry: epoch, breakGlass }
}

/** The dataset's flips and rollbacks, newest first. */
export async function flips(db: Db, dataset: string, limit = 100): Promise<FlipRow[]> {
  return readFlips(db, `where dataset = $1 order by ${NEWEST_FIRST} limit $2`, [dataset, limit])
}

/** Those that were made, newest first. */
export async function confirmedFlips(db: Db, dataset: string, limit: number): Promise<FlipRow[]> {
  return readFlips(db, `where dataset = $1 and outcome = 'confirmed' order by ${NEWEST_FIRST} limit $2`, [
    dataset,
    limit,
  ])
}

/** Intents whose outcome is not known, oldest first: it must be read from the store before anything is cleaned up. */
export async function openFlips(db: Db, dataset: string): Promise<FlipRow[]> {
  return readFlips(db, 'where dataset = $1 and outcome is null order by epoch', [dataset])
}

/** One flip; null when it was never intended. */
export async function flipOf(db: Db, flipId: string): Promise<FlipRow | null> {
  return (await readFlips(db, 'where id = $1', [flipId]))[0] ?? null
}

/** Of what readers can be taken to (flips grow in number for ever); each by the index flips_by_version. */
const LAST_CUT_SHORT = `
    from snapflip.index_versions as good cross join lateral (
      select bake_outcome, bake_until as until
        from snapflip.flip_intents
       where flip_intents.dataset = good.dataset and to_tag = good.tag and kind = 'flip' and outcome = 'confirmed'
       order by epoch desc limit 1) as last
   where good.dataset = $1 and good.state in ('active', 'retained') and bake_outcome in ('failed', 'cutShort')`

/** Tags of dataset $1 whose last watch did not come to its end: nobody goes back to one while there is another. */
export const CUT_SHORT = `select good.tag ${LAST_CUT_SHORT}`

/** The same, and until when each would have been watched. */
export async function cutShort(db: Db, dataset: string): Promise<ReadonlyMap<string, Date>> {
  const rows = await select<{ tag: string; until: Date }>(db, `select good.tag, until ${LAST_CUT_SHORT}`, [dataset])
  return new Map(rows.map(({ tag, until }) => [tag, until]))
}

/** Those that `which` (a where clause with its order) picks. */
export async function readFlips(db: Db, which: string, values: readonly unknown[]): Promise<FlipRow[]> {
  const rows = await select<Omit<FlipRow, 'epoch' | 'breakGlass'> & { epoch: string; breakGlass: string }>(
    db,
    `select id as "flipId", dataset, kind, from_tag as "from", to_tag as "to", epoch, epoch_break_glass as "breakGlass", refresh_id as "refreshId", reason,
            actor, intended_at as "intendedAt", outcome, settled_at as "settledAt", detail,
            bake_until as "bakeUntil", bake_outcome as "bakeOutcome"
       from snapflip.flip_intents ${which}`,
    values,
  )
  return rows.map((row) => ({ ...row, epoch: Number(row.epoch), breakGlass: Number(row.breakGlass) }))
}
