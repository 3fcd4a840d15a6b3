import { type Pointer, RECENT_FLIPS_MAX, type VersionRef } from '../../schemas/pointer.ts'
import { emptyPointer } from '../core/pointer.ts'
import { VERSION_STATES } from '../core/version-state.ts'
import { activeHold } from './active-hold.ts'
import { appliedStore } from './applied-store.ts'
import { confirmedFlips, epochOf } from './flips.ts'
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
  // Newest first: what the last flip left, if it may be gone back to; else what came before the active version.
  const retained = rows.filter((row) => row.state === 'retained' && !quarantined.includes(row.tag))
  const previous =
    retained.find((row) => row.tag === last.from) ?? retained.find((row) => row.ordinal < (active?.ordinal ?? 0))
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
    freshAsOf: active?.watermark == null ? null : { snapshot: active.watermark.snapshot, at: active.watermark.at },
  }
}

/** Null for a version that was never sealed. */
export function refOf(row: VersionRow | undefined): VersionRef | null {
  if (row === undefined || row.digest === null || row.manifestSha256 === null) return null
  return { tag: row.tag, ordinal: row.ordinal, digest: row.digest, manifest: row.manifestSha256 }
}
