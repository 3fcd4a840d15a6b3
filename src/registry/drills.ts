import { SnapflipError } from '../core/errors.ts'
import { activeHold, onHold } from './active-hold.ts'
import { lockDataset } from './dataset-lock.ts'
import { openRefreshOf } from './open-refresh-of.ts'
import { record } from './record.ts'
import { type Db, select, transaction } from './transaction.ts'

/** A drill that is open: refreshes wait for its end. */
export interface DrillRow {
  /** The id of its flip away, too. */
  drillId: string
  dataset: string
  from: string
  /** The same as `from`: it only raises the epoch. */
  to: string
  by: string
  reason: string
  begunAt: Date
}

/** OVERTAKEN: another flip or rollback came in between. */
export type DrillResult = 'DONE' | 'OVERTAKEN' | 'FAILED'

/** The dataset's open drill; null when none is. */
export async function openDrillOf(db: Db, dataset: string): Promise<DrillRow | null> {
  const rows = await select<DrillRow>(
    db,
    `select id as "drillId", dataset, from_tag as "from", to_tag as "to", by, reason, begun_at as "begunAt"
       from snapflip.drills where dataset = $1 and ended_at is null`,
    [dataset],
  )
  return rows[0] ?? null
}

/** While a drill is open the pointer is on its way back and forth: no refresh opens, nor another drill. */
export async function requireNoDrill(db: Db, dataset: string): Promise<void> {
  const open = await openDrillOf(db, dataset)
  if (open === null) return
  const since = open.begunAt.toISOString()
  throw new SnapflipError(
    'REFRESH_RUNNING',
    `Expected no drill of ${dataset}, found one by ${open.by} since ${since}, from ${open.from} to ${open.to} and back. ` +
      `It ends by itself while a worker runs; \`snapflip drill ${dataset} --end\` brings readers back to ${open.from}.`,
    { dataset, drillId: open.drillId, since },
  )
}

/**
 * Opens a drill, before any store is touched. Again for the same id: nothing happens.
 *
 * @throws SnapflipError REFRESH_RUNNING (a refresh or another drill is open), ON_HOLD.
 */
export async function beginDrill(
  db: Db,
  { drillId, dataset, from, to, by, reason }: Omit<DrillRow, 'begunAt'>,
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    if ((await openDrillOf(client, dataset))?.drillId === drillId) return
    await requireNoDrill(client, dataset)
    const hold = await activeHold(client, dataset)
    if (hold !== null) throw onHold(dataset, hold)
    const refresh = await openRefreshOf(client, dataset)
    if (refresh !== null) {
      throw new SnapflipError(
        'REFRESH_RUNNING',
        `Expected no open refresh of ${dataset}, found workflow ${refresh.workflowId} at work since ${refresh.openedAt.toISOString()}. A drill waits for its end.`,
        { dataset, workflowId: refresh.workflowId },
      )
    }
    await client.query(BEGIN, [drillId, dataset, from, to, by, reason])
    await record(client, {
      dataset,
      actor: by,
      kind: 'drill.begun',
      version: to,
      detail: { drillId, from, to, reason },
    })
  })
}

const BEGIN = `
  insert into snapflip.drills (id, dataset, from_tag, to_tag, by, reason)
  values ($1, $2, $3, $4, $5, $6)`

/** Closes it, with the times it took. Closed before: nothing happens. */
export async function endDrill(
  db: Db,
  {
    dataset,
    drillId,
    outcome,
    times,
    summary,
  }: {
    dataset: string
    drillId: string
    outcome: DrillResult
    /** Milliseconds, by what they are of. */
    times: Record<string, number>
    summary: string
  },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const open = await openDrillOf(client, dataset)
    if (open?.drillId !== drillId) return
    await client.query(END, [drillId, outcome, JSON.stringify(times)])
    const { from, to } = open
    const detail = { drillId, from, to, outcome, times, summary }
    await record(client, { dataset, actor: open.by, kind: 'drill.ended', version: to, detail })
  })
}

const END = `
  update snapflip.drills
     set ended_at = clock_timestamp(), outcome = $2, times = $3
   where id = $1`
