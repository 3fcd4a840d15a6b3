import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../core/errors.ts'
import { currentDefinition } from './current-definition.ts'
import { type BakeOutcome, confirmedFlips, type FlipKind } from './flips.ts'
import { type Db, select } from './transaction.ts'

/** The watch over the version that a flip made active. */
export interface Bake {
  kind: FlipKind
  /** By the database's clock. */
  elapsedMs: number
  until: Date
  /** Null while it bakes. */
  outcome: BakeOutcome | null
  /** Whose readers' counters say what the version before was like: the flip that made it active, and the canary before this flip. */
  watchesBefore: string[]
}

/** Null: the flip was not made, or no bake was declared with it. */
export async function bakeOf(db: Db, flipId: string): Promise<Bake | null> {
  const rows = await select<Omit<Bake, 'watchesBefore'> & { flipBefore: string | null; canaryBefore: string | null }>(
    db,
    `select flip.kind, (extract(epoch from clock_timestamp() - flip.settled_at) * 1000)::double precision as "elapsedMs",
            flip.bake_until as until, flip.bake_outcome as outcome,
            (select before.id from snapflip.flip_intents as before
              where before.dataset = flip.dataset and before.to_tag = flip.from_tag and before.outcome = 'confirmed'
                and before.epoch < flip.epoch
              order by before.epoch desc limit 1) as "flipBefore",
            (select id from snapflip.canaries
              where canaries.dataset = flip.dataset and canaries.tag = flip.to_tag and canaries.outcome = 'flipped'
                and canaries.epoch < flip.epoch
              order by canaries.epoch desc limit 1) as "canaryBefore"
       from snapflip.flip_intents as flip
      where flip.id = $1 and flip.outcome = 'confirmed' and flip.bake_until is not null`,
    [flipId],
  )
  const [row] = rows
  if (row === undefined) return null
  const { flipBefore, canaryBefore, ...bake } = row
  return { ...bake, watchesBefore: [flipBefore, canaryBefore].filter((id) => id !== null) }
}

/**
 * The watch over what readers are on, where the next flip waits for its end: as the definition that was applied last declares. Null: nothing waits. Of a
 * rollback nothing does: its watch moves no reader, and what is to follow it is the cure.
 */
export async function awaitedBake(
  db: Db,
  dataset: string,
): Promise<{ flipId: string; tag: string; until: Date } | null> {
  const [last] = await confirmedFlips(db, dataset, 1)
  if (last?.kind !== 'flip' || last.bakeUntil === null || last.bakeOutcome !== null) return null
  const { bake } = (await currentDefinition(db, dataset))?.definition ?? {}
  return bake?.whileBaking === 'wait' ? { flipId: last.flipId, tag: last.to, until: last.bakeUntil } : null
}

/** @throws SnapflipError REFRESH_RUNNING */
export async function requireNoBake(db: Db, dataset: string): Promise<void> {
  const bake = await awaitedBake(db, dataset)
  if (bake === null) return
  const { flipId, tag, until } = bake
  const workflowId = WORKFLOW_ID.bake(dataset, flipId)
  throw new SnapflipError(
    'REFRESH_RUNNING',
    `Expected no bake of ${dataset}, found workflow ${workflowId} watching ${tag} until about ${until.toISOString()}, which the next flip waits for. ` +
      "Wait for it; `bake: { whileBaking: 'end' }` lets the next flip end it.",
    { dataset, workflowId, tag, until: until.toISOString() },
  )
}

/**
 * Bakes that are not over, of flips that no workflow made, so none has started the watch: a rollback without the registry, which knows of it by now, and
 * one by which a store was repaired.
 */
export async function unstartedBakes(
  db: Db,
  datasets: readonly string[],
): Promise<Array<{ dataset: string; flipId: string; tag: string }>> {
  return select(
    db,
    `select dataset, id as "flipId", to_tag as tag
       from snapflip.flip_intents
      where dataset = any ($1) and (epoch_break_glass > 0 or detail ? 'isUnwatched') and outcome = 'confirmed'
        and bake_until > clock_timestamp() and bake_outcome is null`,
    [datasets],
  )
}
