import type { Hold } from '../../schemas/pointer.ts'
import type { VersionState } from '../core/version-state.ts'
import { activeHold } from './active-hold.ts'
import { type ApprovalRow, approvals } from './approvals.ts'
import { type CanaryRow, openCanary } from './canaries.ts'
import { type DrillRow, openDrillOf } from './drills.ts'
import { type FlipRow, flips, openFlips } from './flips.ts'
import { type OpenRefresh, openRefreshOf } from './open-refresh-of.ts'
import { type RefreshRow, refreshes } from './refreshes.ts'
import { type Db, select } from './transaction.ts'
import type { VersionRow } from './version.ts'
import { versions } from './versions.ts'

/** What `snapflip status` asks the registry of a dataset. */
export interface DatasetStatus {
  dataset: string
  /** False: `apply` was never run; everything else is empty then. */
  applied: boolean
  /** As the registry has it; the store's pointer decides. */
  active: VersionRow | null
  epochRegistry: number
  hold: Hold | null
  openRefresh: OpenRefresh | null
  /** What the open refresh waits for a person to say; null when it does not. */
  waitsFor: ApprovalRow | null
  /** The last one that was closed. */
  lastRefresh: RefreshRow | null
  lastFlip: FlipRow | null
  /** Flips whose outcome is not known yet. */
  openFlips: FlipRow[]
  /** A rehearsed rollback that is under way, or was left. */
  openDrill: DrillRow | null
  /** The one that goes on. */
  canary: CanaryRow | null
  /** How many versions are in each state; states without any are left out. */
  versions: Partial<Record<VersionState, number>>
}

/** What the registry knows of each dataset, in the order asked. */
export async function status(db: Db, datasets: readonly string[]): Promise<DatasetStatus[]> {
  const known = await select<{ name: string; epoch: string }>(
    db,
    'select name, epoch_registry as epoch from snapflip.datasets where name = any ($1)',
    [datasets],
  )
  const epochs = new Map(known.map(({ name, epoch }) => [name, Number(epoch)]))
  const result: DatasetStatus[] = []
  for (const dataset of datasets) {
    // Of the two newest refreshes, at most one is open.
    const newest = await refreshes(db, dataset, 2)
    result.push({
      dataset,
      applied: epochs.has(dataset),
      active: (await versions(db, dataset, { states: ['active'] }))[0] ?? null,
      epochRegistry: epochs.get(dataset) ?? 0,
      hold: await activeHold(db, dataset),
      openRefresh: await openRefreshOf(db, dataset),
      waitsFor: (await approvals(db, { dataset, waiting: true, limit: 1 }))[0] ?? null,
      lastRefresh: newest.find((refresh) => refresh.closedAt !== null) ?? null,
      lastFlip: (await flips(db, dataset, 1))[0] ?? null,
      openFlips: await openFlips(db, dataset),
      openDrill: await openDrillOf(db, dataset),
      canary: await openCanary(db, dataset),
      versions: await countByState(db, dataset),
    })
  }
  return result
}

async function countByState(db: Db, dataset: string): Promise<Partial<Record<VersionState, number>>> {
  const rows = await select<{ state: VersionState; count: number }>(
    db,
    'select state, count(*)::integer as count from snapflip.index_versions where dataset = $1 group by state',
    [dataset],
  )
  return Object.fromEntries(rows.map(({ state, count }) => [state, count]))
}
