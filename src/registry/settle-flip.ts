import type pg from 'pg'
import type { Hold } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'
import { openCanary } from './canaries.ts'
import { lockDataset } from './dataset-lock.ts'
import { finishCanary, leaveCanary } from './end-canary.ts'
import { type FlipResult, type FlipRow, flipOf } from './flips.ts'
import { putHold } from './hold.ts'
import { putQuarantine } from './quarantine.ts'
import { record } from './record.ts'
import { changeState } from './set-version-state.ts'
import { type Db, select, transaction } from './transaction.ts'
import { version } from './version.ts'

export interface FlipSettlement {
  flipId: string
  /** As read from the store, never guessed. */
  outcome: FlipResult
  /** What the store said. */
  detail: object
  /** Put on the dataset in the same transaction, as the pointer has it. */
  hold?: Hold
  /** When readers were there, ISO; now unless given. */
  at?: string
  /** Tags quarantined besides the one a rollback leaves. */
  quarantine?: readonly string[]
}

/**
 * Records how a flip ended. Confirmed: its version is active, the one before retained (a rollback: quarantined). Where a flip with a
 * higher epoch was confirmed first, that one stays active. The same outcome again: nothing happens.
 *
 * @throws SnapflipError CONFLICT when it was settled otherwise, or never intended.
 */
export async function settleFlip(db: Db, settlement: FlipSettlement): Promise<void> {
  await transaction(db, async (client) => {
    const { flipId, outcome, detail, hold } = settlement
    const found = await flipOf(client, flipId)
    if (found === null) throw settledOtherwise(flipId, outcome, 'never intended')
    await lockDataset(client, found.dataset)
    const flip = (await flipOf(client, flipId)) ?? found
    if (flip.outcome === outcome) return
    if (flip.outcome !== null) throw settledOtherwise(flipId, outcome, flip.outcome)

    const isLatest = !(await wasOvertaken(client, flip))
    const quarantined = outcome === 'confirmed' ? quarantinedBy(flip, settlement) : []
    if (outcome === 'confirmed') {
      const reason = flip.reason ?? `${flip.kind} to ${flip.to}`
      await moveVersions(client, flip, { isLatest, quarantined })
      for (const tag of quarantined) {
        await putQuarantine(client, { dataset: flip.dataset, tag, by: flip.actor, reason })
      }
      if (hold !== undefined) await putHold(client, flip.dataset, hold)
      await settleCanary(client, flip)
      await client.query(CUT_SHORT, [flip.dataset, flipId])
    }
    await client.query(SETTLE, [flipId, outcome, JSON.stringify(detail), settlement.at ?? null])
    await record(client, {
      dataset: flip.dataset,
      actor: flip.actor,
      kind: `${flip.kind}.${outcome}`,
      version: flip.to,
      detail: {
        flipId,
        from: flip.from,
        to: flip.to,
        epoch: flip.epoch,
        reason: flip.reason,
        quarantined,
        hold: outcome === 'confirmed' ? (hold ?? null) : null,
        overtaken: !isLatest,
        detail,
      },
    })
  })
}

const SETTLE = `
  update snapflip.flip_intents
     set outcome = $2, settled_at = coalesce($4, clock_timestamp()), detail = coalesce(detail, '{}') || $3
   where id = $1`

/**
 * The bakes of the flips before, which this one cut short; its own, where a later one did so before this was recorded. What is not confirmed by
 * then is no bake.
 */
const CUT_SHORT = `
  update snapflip.flip_intents
     set bake_outcome = 'cutShort', bake_ended_at = clock_timestamp()
   where dataset = $1 and bake_until is not null and bake_outcome is null
     and exists (
       select from snapflip.flip_intents as later
        where later.dataset = $1 and (later.epoch, later.epoch_break_glass) > (flip_intents.epoch, flip_intents.epoch_break_glass)
          and (later.outcome = 'confirmed' or later.id = $2)
     )`

/** Every flip ends the canary in the pointer. */
async function settleCanary(client: pg.ClientBase, { dataset, flipId, kind, to, epoch }: FlipRow): Promise<void> {
  const open = await openCanary(client, dataset)
  if (open === null || open.epoch > epoch) return
  const { canaryId, tag } = open
  if (tag === to) await finishCanary(client, canaryId, 'flipped')
  else await leaveCanary(client, { canaryId, dataset, tag, why: `${kind} ${flipId} to ${to} came first` })
}

function quarantinedBy(flip: FlipRow, { quarantine = [] }: FlipSettlement): string[] {
  const left = flip.kind === 'rollback' && flip.from !== null ? [flip.from] : []
  return [...new Set([...left, ...quarantine])]
}

/** Whether one with a higher epoch was made: then that one's version is active. */
export async function wasOvertaken(db: Db, flip: Pick<FlipRow, 'dataset' | 'epoch' | 'breakGlass'>): Promise<boolean> {
  const rows = await select(
    db,
    `select from snapflip.flip_intents where dataset = $1 and (epoch, epoch_break_glass) > ($2, $3) and outcome = 'confirmed' limit 1`,
    [flip.dataset, flip.epoch, flip.breakGlass],
  )
  return rows.length > 0
}

/** First all that leave, then the one that comes: at no moment are two versions active (versions_one_active). */
async function moveVersions(
  client: pg.ClientBase,
  { dataset, to }: FlipRow,
  { isLatest, quarantined }: { isLatest: boolean; quarantined: readonly string[] },
): Promise<void> {
  for (const tag of quarantined) {
    const { state } = await version(client, dataset, tag)
    // Retired or swept it stays: nobody flips to it anyway. Active again by a later flip, it is that flip's.
    if (state === 'retired' || state === 'swept' || (state === 'active' && !isLatest)) continue
    await changeState(client, { dataset, tag, to: 'quarantined' })
  }
  if (isLatest) {
    for (const { tag, lost } of (await client.query<{ tag: string; lost: boolean }>(LEFT, [dataset, to])).rows) {
      await changeState(client, { dataset, tag, to: lost ? 'quarantined' : 'retained' })
    }
    await changeState(client, { dataset, tag: to, to: 'active' })
  } else {
    const { state } = await version(client, dataset, to)
    if (state === 'sealed' || state === 'candidate') await changeState(client, { dataset, tag: to, to: 'retained' })
  }
}

/** Quarantined while it was active: the store had lost part of it (loseVersions). */
const LEFT = `
  select tag, exists (
           select from snapflip.quarantines
            where quarantines.dataset = index_versions.dataset and quarantines.tag = index_versions.tag and lifted_at is null
         ) as lost
    from snapflip.index_versions
   where dataset = $1 and state = 'active' and tag <> $2`

function settledOtherwise(flipId: string, outcome: FlipResult, found: string): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `Expected flip ${flipId} to be open, to settle it as ${outcome}; found it ${found}. The store's pointer says what holds.`,
    { flipId, outcome, found },
  )
}
