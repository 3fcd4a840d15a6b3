import type pg from 'pg'
import type { BreakGlassEntry, Pointer } from '../../schemas/pointer.ts'
import { isBehind } from '../core/asserted-pointer.ts'
import { formatEpoch } from '../core/epoch.ts'
import { breakGlassActor } from '../core/flip.ts'
import { currentDefinition } from './current-definition.ts'
import { lockDataset } from './dataset-lock.ts'
import { flipOf, openFlips } from './flips.ts'
import { knownPointer } from './known-pointer.ts'
import { raiseEpoch } from './raise-epoch.ts'
import { record } from './record.ts'
import { followState } from './set-version-state.ts'
import { settleFlip, wasOvertaken } from './settle-flip.ts'
import { type Db, transaction } from './transaction.ts'
import { versions } from './versions.ts'

/** Taken over; or why not yet: a flip's outcome is not known, or the store has not the last that was confirmed. */
export type Absorbed = { outcome: 'absorbed'; flipIds: string[] } | { outcome: 'openFlip' | 'behind' }

/**
 * Takes over the break-glass rollbacks that a pointer holds, oldest first, all or none: flips, quarantines, hold and history entries, as of when they
 * were made. Not while a flip is open, and not from a store that is behind: a flip that was acknowledged, undone by a failover and is recorded
 * only afterwards would come after a rollback that a person made last. Taken over before: nothing happens.
 *
 * @param pointer as it was read, before this was called.
 */
export async function absorb(
  db: Db,
  { dataset, store, pointer }: { dataset: string; store: string; pointer: Pointer },
): Promise<Absorbed> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    if ((await openFlips(client, dataset)).length > 0) return { outcome: 'openFlip' }
    const known = await knownPointer(client, dataset)
    if (known !== null && isBehind(pointer, known)) return { outcome: 'behind' }
    await takeOver(client, { dataset, store, entries: pointer.breakGlass })
    return { outcome: 'absorbed', flipIds: pointer.breakGlass.map(({ flipId }) => flipId) }
  })
}

/** The change alone, in a transaction that holds the lock of the dataset's row. `entries` newest first, as the pointer has them. */
export async function takeOver(
  client: pg.ClientBase,
  { dataset, store, entries }: { dataset: string; store: string; entries: readonly BreakGlassEntry[] },
): Promise<void> {
  for (const entry of entries.toReversed()) {
    if ((await flipOf(client, entry.flipId)) === null) await takeOverOne(client, { dataset, store, entry })
  }
}

async function takeOverOne(
  client: pg.ClientBase,
  { dataset, store, entry }: { dataset: string; store: string; entry: BreakGlassEntry },
): Promise<void> {
  const { flipId, from, to, reason, at, epoch, rebound } = entry
  const actor = breakGlassActor(entry.by)
  await raiseEpoch(client, dataset, epoch.registry)
  const rows = await versions(client, dataset, { tags: [from, to] })
  // Readers are on it, whatever had been decided of it meanwhile: a retirement or a quarantine that had not reached the pointer.
  const target = rows.find((row) => row.tag === to)?.state
  const isLatest = !(await wasOvertaken(client, { dataset, epoch: epoch.registry, breakGlass: epoch.breakGlass }))
  if (isLatest && target !== undefined && target !== 'active')
    await followState(client, {
      dataset,
      tag: to,
      from: target,
      to: 'retained',
      why: 'a break-glass rollback went to it',
    })
  const leaves = rows.some((row) => row.tag === from) ? from : null
  const bakeMs = (await currentDefinition(client, dataset))?.definition.bake?.forMs ?? null
  const values = [flipId, dataset, leaves, to, epoch.registry, epoch.breakGlass, reason, actor, at, bakeMs]
  await client.query(TAKE_OVER, values)
  await record(client, {
    dataset,
    actor,
    kind: 'rollback.absorbed',
    version: to,
    detail: { flipId, from, to, epoch: formatEpoch(epoch), reason, at, rebound, store },
  })
  const detail = { store, breakGlass: true, at, rebound }
  // Readers were there from then on, not from when the registry heard of it.
  await settleFlip(client, { flipId, outcome: 'confirmed', detail, hold: { by: actor, reason, at }, at })
}

/** Its bake is counted from when it was made: what is over by now nobody can watch any more. */
const TAKE_OVER = `
  insert into snapflip.flip_intents (id, dataset, kind, from_tag, to_tag, epoch, epoch_break_glass, reason, actor, intended_at, bake_until)
  select $1, $2, 'rollback', $3, $4, $5, $6, $7, $8, $9::timestamptz, case when until > clock_timestamp() then until end
    from (select $9::timestamptz + make_interval(secs => $10 / 1000.0) as until) as bake`
