import { type Db, select } from './transaction.ts'

export interface AbandonedGeneration {
  generation: string
  store: string
  refreshId: string
  attempt: number
  begunAt: Date
  /** From here on nothing of it can become part of a version; a paused worker may still write to it. */
  abandonedAt: Date
}

/** Attempts whose writes belong to no version and were not swept yet, oldest first. */
export async function abandonedGenerations(db: Db, dataset: string): Promise<AbandonedGeneration[]> {
  return select<AbandonedGeneration>(
    db,
    `select generation, store, refresh_id as "refreshId", attempt, begun_at as "begunAt", ended_at as "abandonedAt"
       from snapflip.builds
      where dataset = $1 and outcome = 'abandoned'
      order by begun_at`,
    [dataset],
  )
}
