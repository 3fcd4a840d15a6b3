import { type Pointer, RECENT_FLIPS_MAX, type VersionRef } from '../../schemas/pointer.ts'
import { emptyPointer } from '../core/pointer.ts'
import { VERSION_STATES } from '../core/version-state.ts'
import { activeHold } from './active-hold.ts'
import { appliedStore } from './applied-store.ts'
import { currentDefinition } from './current-definition.ts'
import { confirmedFlips, cutShort, epochOf } from './flips.ts'
import { activePin } from './pins.ts'
import { type Db, select } from './transaction.ts'
import type { VersionRow } from './version.ts'
import { versions } from './versions.ts'

/**
 * The pointer as the last confirmed flip or rollback left it, told from the registry alone; null when there was none, or none since the
 * dataset moved to this store.
 */
export async function knownPointer(db: Db, dataset: string): Promise<Pointer | null> {
  const { storeEpoch } = await appliedStore(db, dataset)
  const made = (await confirmedFlips(db, dataset, RECENT_FLIPS_MAX)).filter(({ epoch }) => epoch > storeEpoch)
  const [last] = made
  if (last === undefined) return null
  // All but those that are gone, which grow in number for ever.
  const rows = await versions(db, dataset, { states: VERSION_STATES.filter((state) => state !== 'swept') })
  const active = rows.find((row) => row.tag === last.to)
  const forbidden = await select<{ tag: string }>(
    db,
    'select tag from snapflip.quarantines where dataset = $1 and lifted_at is null order by id',
    [dataset],
  )
  const quarantined = forbidden.map((row) => row.tag)
  // Of what came before the active version: what the last flip left, then the newest. Those whose bake was cut short last.
  const cut = await cutShort(db, dataset)
  const retained = rows
    .filter((row) => row.state === 'retained' && !quarantined.includes(row.tag))
    .filter((row) => row.ordinal < (active?.ordinal ?? 0))
    .sort((a, b) => Number(b.tag === last.from) - Number(a.tag === last.from) || b.ordinal - a.ordinal)
  const previous = retained.find((row) => !cut.has(row.tag)) ?? retained[0]
  const { bakeUntil, bakeOutcome, kind } = last
  return {
    ...emptyPointer(dataset),
    active: refOf(active),
    previous: refOf(previous),
    epoch: epochOf(last),
    flipId: last.flipId,
    flips: made.map(({ flipId, to }) => ({ flipId, tag: to })),
    hold: await activeHold(db, dataset),
    quarantined,
    retired: rows.filter((row) => row.state === 'retired').map((row) => row.tag),
    bake:
      kind === 'rollback' || bakeUntil === null || bakeOutcome !== null
        ? null
        : { flipId: last.flipId, until: bakeUntil.toISOString() },
    pin: await activePin(db, dataset),
    ttl: (await currentDefinition(db, dataset))?.definition.ttl ?? null,
    freshAsOf: active?.watermark == null ? null : { snapshot: active.watermark.snapshot, at: active.watermark.at },
  }
}

/** Null for a version that was never sealed. */
export function refOf(row: VersionRow | undefined): VersionRef | null {
  if (row === undefined || row.digest === null || row.manifestSha256 === null) return null
  return { tag: row.tag, ordinal: row.ordinal, digest: row.digest, manifest: row.manifestSha256 }
}
