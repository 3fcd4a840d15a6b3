import type { Pool } from 'pg'
import type { Incident } from '../../schemas/incident.ts'
import { type AlertRow, alertsBetween } from '../registry/alerts-between.ts'
import { decisionsOn } from '../registry/decisions-on.ts'
import { type FlipRow, flipOf, readFlips } from '../registry/flips.ts'
import { gateResults } from '../registry/gate-results.ts'
import { type HistoryEntry, historyEntries } from '../registry/history-entries.ts'
import { type RefreshRow, readRefreshes } from '../registry/refreshes.ts'
import { type VersionRow, version as versionOf } from '../registry/version.ts'
import { versions as versionsOf } from '../registry/versions.ts'
import type { Store } from '../stores/ports.ts'

/** Newest are kept: what came before them is further from what went wrong. */
const ENTRIES_MAX = 10_000
const ROWS_MAX = 1_000
/** After a version was left: its quarantine, what was verified then, who was told. */
const AFTERWARDS_MS = 5 * 60_000

/** What an incident is about. */
export interface Window {
  /** Null: all. */
  dataset: string | null
  flipId: string | null
  since: Date
  until: Date
}

type Gathered = Pick<Incident, 'timeline' | 'isCut' | 'movements' | 'refreshes' | 'versions' | 'alerts'>

/**
 * The time of the version that a flip took readers to: from the refresh that built it, or from the flip where nobody knows that, until a little
 * after they left it. Null: no such flip.
 */
export async function windowOfFlip(pool: Pool, flipId: string): Promise<Window | null> {
  const flip = await flipOf(pool, flipId)
  if (flip === null) return null
  const { dataset, to, epoch, breakGlass, intendedAt } = flip
  const { refreshId } = await versionOf(pool, dataset, to)
  const [refresh] = refreshId === null ? [] : await readRefreshes(pool, 'where id = $1', [refreshId])
  // Gone back to, a version was built long before.
  const isItsOwn = flip.refreshId !== null && flip.refreshId === refreshId
  const [next] = await readFlips(
    pool,
    `where dataset = $1 and outcome = 'confirmed' and (epoch, epoch_break_glass) > ($2, $3) order by epoch, epoch_break_glass limit 1`,
    [dataset, epoch, breakGlass],
  )
  const left = next?.settledAt?.getTime() ?? Number.POSITIVE_INFINITY
  return {
    dataset,
    flipId,
    since: isItsOwn ? (refresh?.openedAt ?? intendedAt) : intendedAt,
    until: new Date(Math.min(left + AFTERWARDS_MS, Date.now())),
  }
}

/** All that the registry knows of a window of time, and what readers told the stores of it. */
export async function gatherIncident(
  pool: Pool,
  { dataset, since, until }: Window,
  stores: (dataset: string) => Promise<readonly Store[]>,
): Promise<Gathered> {
  const filter = { since, until, limit: ENTRIES_MAX + 1, ...(dataset === null ? {} : { dataset }) }
  const entries = await historyEntries(pool, filter)
  const during = [dataset, since, until, ROWS_MAX]
  const flips = await readFlips(
    pool,
    `where ($1::text is null or dataset = $1) and intended_at < $3 and coalesce(settled_at, 'infinity') >= $2 order by intended_at limit $4`,
    during,
  )
  const refreshes = await readRefreshes(
    pool,
    `where ($1::text is null or dataset = $1) and opened_at < $3 and coalesce(closed_at, 'infinity') >= $2 order by opened_at limit $4`,
    during,
  )
  const alerts = await alertsBetween(pool, { dataset, since, until })
  const movements: Incident['movements'] = []
  for (const flip of flips) movements.push(await movementOf(pool, flip, { entries, alerts }, stores))
  return {
    timeline: entries.slice(0, ENTRIES_MAX).toReversed().map(toldEntry),
    isCut: entries.length > ENTRIES_MAX,
    movements,
    refreshes: refreshes.map(toldRefresh),
    versions: await versionsNamed(pool, flips, refreshes),
    alerts: alerts.map((alert) => ({
      ...alert,
      raisedAt: alert.raisedAt.toISOString(),
      lastAt: alert.lastAt.toISOString(),
    })),
  }
}

async function movementOf(
  pool: Pool,
  flip: FlipRow,
  { entries, alerts }: { entries: readonly HistoryEntry[]; alerts: readonly AlertRow[] },
  stores: (dataset: string) => Promise<readonly Store[]>,
): Promise<Incident['movements'][number]> {
  const { flipId, dataset, kind, from, to, actor, reason, outcome, intendedAt, settledAt, epoch, breakGlass } = flip
  const [left] = await readFlips(
    pool,
    `where dataset = $1 and to_tag = $2 and outcome = 'confirmed' and (epoch, epoch_break_glass) < ($3, $4)
      order by epoch desc, epoch_break_glass desc limit 1`,
    [dataset, from, epoch, breakGlass],
  )
  // A drill is about nothing that was found; what was told before readers were on it, they were let see in spite of.
  const [detected] =
    left === undefined || kind === 'drill'
      ? []
      : [
          ...alerts.map(({ raisedAt: at, version, dataset, kind }) => ({ at, version, dataset, by: `alert ${kind}` })),
          ...entries
            .filter((entry) => entry.kind === 'bake.failed')
            .map(({ at, version, dataset, kind }) => ({ at, version, dataset, by: kind })),
        ]
          .filter((signal) => signal.dataset === dataset && signal.version === from)
          .filter(({ at }) => at >= left.intendedAt && at <= intendedAt)
          .sort((a, b) => a.at.getTime() - b.at.getTime())
  return {
    ...{ flipId, dataset, kind, from, to, actor, reason, outcome },
    detectedAt: detected?.at.toISOString() ?? null,
    detectedBy: detected?.by ?? null,
    wantedAt: intendedAt.toISOString(),
    settledAt: settledAt?.toISOString() ?? null,
    lastReaderAt: left === undefined ? null : await lastReportOf(left, await stores(dataset)),
  }
}

/** Of the readers that a flip had taken to its version. A store that does not answer has told nothing. */
async function lastReportOf({ flipId }: FlipRow, stores: readonly Store[]): Promise<string | null> {
  const reports = await Promise.all(stores.map((store) => store.counters.list(flipId).catch(() => [])))
  const times = reports.flat().map(({ at }) => at)
  return times.sort().at(-1) ?? null
}

async function versionsNamed(
  pool: Pool,
  flips: readonly FlipRow[],
  refreshes: readonly RefreshRow[],
): Promise<Incident['versions']> {
  const tags = new Map<string, Set<string>>()
  for (const { dataset, named } of [
    ...flips.map(({ dataset, from, to }) => ({ dataset, named: [from, to] })),
    ...refreshes.map(({ dataset, tag }) => ({ dataset, named: [tag] })),
  ]) {
    const known = tags.get(dataset) ?? new Set()
    tags.set(dataset, known)
    for (const tag of named) if (tag !== null) known.add(tag)
  }
  const told: Incident['versions'] = []
  for (const [dataset, named] of tags) {
    const rows = await versionsOf(pool, dataset, { tags: [...named] })
    for (const row of rows.toReversed()) told.push(await toldVersion(pool, row))
  }
  return told
}

async function toldVersion(pool: Pool, row: VersionRow): Promise<Incident['versions'][number]> {
  const { dataset, tag, state, parent, digest, manifestSha256, watermark, refreshId, createdAt, sealedAt, counts } = row
  const gates = await gateResults(pool, dataset, tag)
  const decisions = await decisionsOn(pool, dataset, tag, new Date())
  return {
    ...{ dataset, tag, state, parent, digest, manifestSha256, refreshId, counts },
    watermarkAt: watermark?.at ?? null,
    createdAt: createdAt.toISOString(),
    sealedAt: sealedAt?.toISOString() ?? null,
    gates: gates.map((result) => ({ ...result, at: result.at.toISOString() })),
    decisions: decisions.map(toldEntry),
  }
}

const toldEntry = (entry: HistoryEntry) => ({ ...entry, at: entry.at.toISOString() })

function toldRefresh(refresh: RefreshRow): Incident['refreshes'][number] {
  const { refreshId, dataset, requestedBy, reason, full, openedAt, closedAt, status, tag, summary, durationsMs } =
    refresh
  return {
    ...{ refreshId, dataset, requestedBy, reason, full, status, tag, summary, durationsMs },
    openedAt: openedAt.toISOString(),
    closedAt: closedAt?.toISOString() ?? null,
  }
}
