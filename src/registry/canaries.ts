import type { Verdict } from '../../schemas/refresh.ts'
import { type Db, select } from './transaction.ts'

/** `ended`: by a flip, a rollback, a person, or the end of its refresh. */
export type CanaryOutcome = 'flipped' | 'refused' | 'ended'

/** A canary as it was recorded before any store was touched. */
export interface CanaryRow {
  canaryId: string
  dataset: string
  tag: string
  refreshId: string
  /** The registry's part of the epoch. */
  epoch: number
  /** Null: the candidate is only probed, and the pointer stays as it is. */
  share: number | null
  salt: string
  intendedAt: Date
  endsAt: Date
  /** Since it was intended, by the database's clock. */
  elapsedMs: number
  /** Null until it is judged. */
  verdict: Verdict | null
  /** Null: it runs, or may still begin; read the pointer. */
  outcome: CanaryOutcome | null
}

/** One canary; null when it was never intended. */
export async function canaryOf(db: Db, canaryId: string): Promise<CanaryRow | null> {
  return (await readCanaries(db, 'id = $1', [canaryId]))[0] ?? null
}

/** The dataset's canary that has no outcome; there is one at most (canaries_one_open). */
export async function openCanary(db: Db, dataset: string): Promise<CanaryRow | null> {
  return (await readCanaries(db, 'dataset = $1 and outcome is null', [dataset]))[0] ?? null
}

/** Those of these datasets that have an open canary. */
export async function inCanary(db: Db, datasets: readonly string[]): Promise<string[]> {
  const rows = await select<{ dataset: string }>(
    db,
    'select dataset from snapflip.canaries where dataset = any ($1) and outcome is null',
    [datasets],
  )
  return rows.map(({ dataset }) => dataset)
}

async function readCanaries(db: Db, which: string, values: readonly unknown[]): Promise<CanaryRow[]> {
  const rows = await select<Omit<CanaryRow, 'epoch'> & { epoch: string }>(
    db,
    `select id as "canaryId", dataset, tag, refresh_id as "refreshId", epoch, share, salt, intended_at as "intendedAt",
            ends_at as "endsAt",
            (extract(epoch from clock_timestamp() - intended_at) * 1000)::double precision as "elapsedMs", verdict, outcome
       from snapflip.canaries
      where ${which}`,
    values,
  )
  return rows.map((row) => ({ ...row, epoch: Number(row.epoch) }))
}
