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

type Gathered = Pick<Incident, 'timeline' | 'cut' | 'missing' | 'movements' | 'refreshes' | 'versions' | 'alerts'>

/**
 * The time of the version that a flip took readers to: from the refresh that built it, or from the flip where nobody knows that, until a little
 * after they left it. What a rollback is about began with the version that it leaves. Null: no such flip.
 */
export async function windowOfFlip(pool: Pool, flipId: string): Promise<Window | null> {
  const flip = await flipOf(pool, flipId)
  if (flip === null) return null
  const { dataset, kind, epoch, breakGlass } = flip
  const left = kind === 'rollback' ? await flipToWhatIsLeft(pool, flip) : null
  const [next] = await readFlips(
    pool,
    `where dataset = $1 and outcome = 'confirmed' and (epoch, epoch_break_glass) > ($2, $3) order by epoch, epoch_break_glass limit 1`,
    [dataset, epoch, breakGlass],
  )
  const leftAt = next?.settledAt?.getTime() ?? Number.POSITIVE_INFINITY
  return {
    dataset,
    flipId,
    since: await beginningOf(pool, left ?? flip),
    until: new Date(Math.min(leftAt + AFTERWARDS_MS, Date.now())),
  }
}

async function beginningOf(pool: Pool, { dataset, to, refreshId, intendedAt }: FlipRow): Promise<Date> {
  const version = await versionOf(pool, dataset, to)
  // Gone back to, a version was built long before.
  const isItsOwn = refreshId !== null && refreshId === version.refreshId
  const [refresh] = isItsOwn ? await readRefreshes(pool, 'where id = $1', [refreshId]) : []
  return refresh?.openedAt ?? intendedAt
}

/** The last one before it that took readers to what it takes them from. */
async function flipToWhatIsLeft(pool: Pool, { dataset, from, epoch, breakGlass }: FlipRow): Promise<FlipRow | null> {
  const [left] = await readFlips(
    pool,
    `where dataset = $1 and to_tag = $2 and outcome = 'confirmed' and (epoch, epoch_break_glass) < ($3, $4)
      order by epoch desc, epoch_break_glass desc limit 1`,
    [dataset, from, epoch, breakGlass],
  )
  return left ?? null
}

/** All that the registry knows of a window of time, and what readers told the stores of it. */
export async function gatherIncident(
  pool: Pool,
  { dataset, since, until }: Window,
  stores: (dataset: string) => Promise<readonly Store[]>,
): Promise<Gathered> {
  const filter = { since, until, limit: ENTRIES_MAX + 1, ...(dataset === null ? {} : { dataset }) }
  const cut: Gathered['cut'] = []
  /** The newest, oldest first. */
  const fitting = <T>(list: Gathered['cut'][number], newestFirst: readonly T[], max: number): T[] => {
    if (newestFirst.length > max) cut.push(list)
    return newestFirst.slice(0, max).toReversed()
  }
  const entries = fitting('timeline', await historyEntries(pool, filter), ENTRIES_MAX)
  const during = [dataset, since, until, ROWS_MAX + 1]
  const newestFlips = await readFlips(
    pool,
    `where ($1::text is null or dataset = $1) and intended_at < $3 and coalesce(settled_at, 'infinity') >= $2 order by intended_at desc limit $4`,
    during,
  )
  const newestRefreshes = await readRefreshes(
    pool,
    `where ($1::text is null or dataset = $1) and opened_at < $3 and coalesce(closed_at, 'infinity') >= $2 order by opened_at desc limit $4`,
    during,
  )
  const newestAlerts = await alertsBetween(pool, { dataset, since, until, limit: ROWS_MAX + 1 })
  const flips = fitting('movements', newestFlips, ROWS_MAX)
  const refreshes = fitting('refreshes', newestRefreshes, ROWS_MAX)
  const alerts = fitting('alerts', newestAlerts, ROWS_MAX)
  const reports = new Reports(stores)
  const movements: Incident['movements'] = []
  for (const flip of flips) movements.push(await movementOf(pool, flip, { entries, alerts }, reports))
  return {
    timeline: entries.map(toldEntry),
    cut,
    missing: reports.missing,
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
  reports: Reports,
): Promise<Incident['movements'][number]> {
  const { flipId, dataset, kind, from, to, actor, reason, outcome, intendedAt, settledAt } = flip
  const left = await flipToWhatIsLeft(pool, flip)
  // A drill is about nothing that was found; what was told before readers were on it, they were let see in spite of.
  const [detected] =
    left === null || kind === 'drill'
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
    lastReaderAt: left === null ? null : await reports.lastOf(left),
  }
}

/** What readers reported. A store that failed once is not asked again: each question to one that is down takes its time. */
class Reports {
  readonly missing: Incident['missing'] = []
  readonly #stores: (dataset: string) => Promise<readonly Store[]>
  readonly #failed = new Set<Store>()

  constructor(stores: (dataset: string) => Promise<readonly Store[]>) {
    this.#stores = stores
  }

  /** When the last reader that a flip had taken to its version said so. Null: none did, or it is among `missing`. */
  async lastOf({ flipId, dataset }: FlipRow): Promise<string | null> {
    const times: string[] = []
    const stores = await this.#stores(dataset).catch((error: unknown) => {
      this.#lacks(`what readers of ${dataset} reported`, error)
      return []
    })
    for (const store of stores) {
      if (this.#failed.has(store)) continue
      try {
        times.push(...(await store.counters.list(flipId)).map(({ at }) => at))
      } catch (error) {
        this.#failed.add(store)
        this.#lacks(`what readers of ${dataset} reported to ${store.url}`, error)
      }
    }
    return times.sort().at(-1) ?? null
  }

  /** Once, however many flips it lacks for. */
  #lacks(part: string, error: unknown): void {
    if (this.missing.some((known) => known.part === part)) return
    this.missing.push({ part, why: error instanceof Error ? error.message : String(error) })
  }
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
