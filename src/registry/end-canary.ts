import type pg from 'pg'
import { type CanaryOutcome, canaryOf } from './canaries.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { requireNoOpenFlip } from './require-no-open-flip.ts'
import { changeState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

/**
 * Records that a canary ended without a verdict against it, or without its flip: its version is sealed again, as before it. The pointer names it no
 * more by then. Ended already, or never intended: nothing happens.
 *
 * @throws SnapflipError CONFLICT while a flip to its version is not settled.
 */
export async function endCanary(db: Db, { canaryId, why }: { canaryId: string; why: string }): Promise<void> {
  await transaction(db, async (client) => {
    const found = await canaryOf(client, canaryId)
    if (found === null) return
    await lockDataset(client, found.dataset)
    const { dataset, tag, outcome } = (await canaryOf(client, canaryId)) ?? found
    if (outcome !== null) return
    await requireNoOpenFlip(client, dataset, tag)
    await leaveCanary(client, { canaryId, dataset, tag, why })
  })
}

/** The same in a transaction that holds the lock of the dataset's row. */
export async function leaveCanary(
  client: pg.ClientBase,
  { canaryId, dataset, tag, why }: { canaryId: string; dataset: string; tag: string; why: string },
): Promise<void> {
  // Quarantined meanwhile it stays so.
  const { state } = await version(client, dataset, tag)
  if (state === 'candidate') await changeState(client, { dataset, tag, to: 'sealed' })
  await finishCanary(client, canaryId, 'ended')
  await record(client, { dataset, actor: null, kind: 'canary.ended', version: tag, detail: { canaryId, why } })
}

/** The outcome alone. */
export async function finishCanary(client: pg.ClientBase, canaryId: string, outcome: CanaryOutcome): Promise<void> {
  await client.query('update snapflip.canaries set outcome = $2, ended_at = clock_timestamp() where id = $1', [
    canaryId,
    outcome,
  ])
}
