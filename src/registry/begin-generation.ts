import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Journals an attempt at writing before it writes, so that whatever it leaves behind can be found. Again for the same
 * generation and store: nothing happens.
 *
 * @throws SnapflipError SUPERSEDED when the refresh is not open.
 */
export async function beginGeneration(
  db: Db,
  build: {
    dataset: string
    refreshId: string
    /** Whose blocks it writes. */
    index: string
    /** Counts from 1. */
    attempt: number
    generation: string
    store: string
    /** The version it reads from: not retired while the refresh is open. */
    parent: string | null
  },
): Promise<void> {
  await transaction(db, async (client) => {
    const { dataset, refreshId, index, attempt, generation, store, parent } = build
    await lockDataset(client, dataset)
    await requireOpenRefresh(client, dataset, refreshId)
    const { rowCount } = await client.query(BEGIN_GENERATION, [generation, store, dataset, refreshId, attempt, parent])
    if (rowCount === 0) return
    const detail = { refreshId, index, attempt, generation, store, parent }
    await record(client, { dataset, actor: null, kind: 'build.begun', detail })
  })
}

const BEGIN_GENERATION = `
  insert into snapflip.builds (generation, store, dataset, refresh_id, attempt, parent)
  values ($1, $2, $3, $4, $5, $6)
  on conflict (generation, store) do nothing`
