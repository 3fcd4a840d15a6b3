import { lockDataset } from './dataset-lock.ts'
import { type BakeOutcome, type FlipRow, flipOf } from './flips.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Records how the watch over a version that became active ended, with what was seen. The first outcome stands: a bake that another flip cut
 * short does not pass later.
 *
 * @returns the outcome that stands; null for a flip without a bake.
 */
export async function endBake(
  db: Db,
  { flipId, outcome, detail }: { flipId: string; outcome: BakeOutcome; detail: object },
): Promise<BakeOutcome | null> {
  return transaction(db, async (client) => {
    const found = await flipOf(client, flipId)
    if (found === null) return null
    await lockDataset(client, found.dataset)
    const { dataset, to, bakeUntil, bakeOutcome } = (await flipOf(client, flipId)) as FlipRow
    if (bakeUntil === null || bakeOutcome !== null) return bakeOutcome
    await client.query(END, [flipId, outcome])
    await record(client, { dataset, actor: null, kind: KIND[outcome], version: to, detail: { flipId, ...detail } })
    return outcome
  })
}

/** Cut short by a flip it has none of its own: the flip has one. */
const KIND = { baked: 'bake.passed', failed: 'bake.failed', cutShort: 'bake.unwatched' } as const

const END = `
  update snapflip.flip_intents
     set bake_outcome = $2, bake_ended_at = clock_timestamp()
   where id = $1`
