import type { DatasetDefinition } from '../../schemas/config.ts'
import { type Db, select } from './transaction.ts'

/** The definition each dataset was applied with last; detached ones are left out. Relies on the primary key of definitions. */
export async function appliedDefinitions(db: Db): Promise<Map<string, DatasetDefinition>> {
  const rows = await select<{ dataset: string; body: DatasetDefinition }>(
    db,
    `select distinct on (dataset) dataset, body
       from snapflip.definitions join snapflip.datasets on name = dataset
      where detached_at is null
      order by dataset, number desc`,
  )
  return new Map(rows.map(({ dataset, body }) => [dataset, body]))
}
