import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/** Notes that nothing of an abandoned generation is left in the store. Again: nothing happens. */
export async function sweptGeneration(
  db: Db,
  { dataset, generation, store }: { dataset: string; generation: string; store: string },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { rowCount } = await client.query(SWEPT, [dataset, generation, store])
    if (rowCount === 0) return
    await record(client, { dataset, actor: null, kind: 'build.swept', detail: { generation, store } })
  })
}

const SWEPT = `
  update snapflip.builds
     set outcome = 'swept', ended_at = clock_timestamp()
   where dataset = $1 and generation = $2 and store = $3 and outcome = 'abandoned'`
