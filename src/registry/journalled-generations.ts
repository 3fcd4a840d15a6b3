import { type Db, select } from './transaction.ts'

/**
 * open: its refresh is, so it may still be written to and become part of a version. abandoned: nothing of it can. ended: it was sealed, or
 * swept before; a paused worker may have written to it since.
 */
export type GenerationState = 'open' | 'abandoned' | 'ended'

/** Those of the generations that the registry knows, and all that were abandoned and not swept yet. */
export async function journalledGenerations(
  db: Db,
  { dataset, store, generations }: { dataset: string; store: string; generations: readonly string[] },
): Promise<Map<string, GenerationState>> {
  const rows = await select<{ generation: string; state: GenerationState }>(
    db,
    `select builds.generation,
            case when refresh_runs.closed_at is null then 'open'
                 when builds.outcome = 'abandoned' then 'abandoned'
                 else 'ended' end as state
       from snapflip.builds join snapflip.refresh_runs on refresh_runs.id = builds.refresh_id
      where builds.dataset = $1 and builds.store = $2 and (builds.outcome = 'abandoned' or builds.generation = any ($3))`,
    [dataset, store, generations],
  )
  return new Map(rows.map((row) => [row.generation, row.state]))
}
