import type { ClientBase } from 'pg'
import type { Watermark } from '../../schemas/manifest.ts'
import { SnapflipError } from '../core/errors.ts'
import { ADD, type EntrySource, REMOVE, SET } from '../snapshot/entry.ts'
import { copyEntries } from './copy.ts'
import { factsDiffer, formerOf, leavesOf, type TableFacts } from './facts.ts'
import { translate } from './failure.ts'
import { entriesOf, leafGroups, literal } from './projection.ts'
import { type Range, rangeCondition } from './ranges.ts'
import { inPinned } from './session.ts'
import { type EventsSource, expectAsResolved, lockNames, type Source, type TableSource, tablesOf } from './source.ts'
import { watermarkStillThere } from './watermark.ts'

/**
 * The change window (from, to]: the effect of every transaction visible in `to` and not in `from`. It is a constant, so any worker can read
 * it, again and in pieces. `from` needs its anchor; `to` may be any later snapshot.
 */
export interface Window {
  readonly from: Watermark
  /** pg_snapshot as text. */
  readonly to: string
}

/**
 * SQL for the rows of `changelog` or `events` in a window. Both branches are look-ups in the index on xid: the range of xids that had not begun
 * in `from`, and those that were open in it. They do not overlap, since what is open in a snapshot is below its xmax.
 */
export function windowRows(
  relation: 'changelog' | 'events',
  columns: string,
  window: Window,
  condition: string,
): string {
  const [, fromMax = '', open = ''] = window.from.snapshot.split(':')
  const [, toMax = ''] = window.to.split(':')
  const visible = `pg_visible_in_snapshot(xid, ${literal(window.to)}::pg_snapshot) and ${condition}`
  const select = `select ${columns} from snapflip.${relation} where`
  const begun = `${select} xid >= ${literal(fromMax)}::xid8 and xid < ${literal(toMax)}::xid8 and ${visible}`
  return open === '' ? begun : `${begun} union all ${select} xid = any (${literal(`{${open}}`)}::xid8[]) and ${visible}`
}

export interface WindowOptions {
  /** Swap before and after: folds a later state back to `from`. */
  readonly reverse?: boolean
  /** Only rows whose primary key lies in it. */
  readonly range?: Range | null
  /** Describe the changes (seq, xid, op, table) instead of giving their entries; ends in a WHERE that takes more conditions. */
  readonly describe?: boolean
}

/**
 * The entries of a window: for each change REMOVE the entry of the row before and ADD that of the row after, in no order; for events SET the last
 * value of each key. Reads in transactions of its own. Throws LINEAGE_BROKEN when `from` is not in this database's history, SOURCE_CHANGED
 * when changes may be missing or their text cannot be read back: the answer to both is a full build.
 */
export function windowSource(
  client: ClientBase,
  source: Source,
  window: Window,
  options: WindowOptions = {},
): EntrySource {
  return {
    async read(sink, signal) {
      try {
        await inWindow(client, [source], window, async () => {
          if (source.kind === 'events') await copyEntries(client, eventsSelect(source, window), undefined, sink, signal)
          else
            for (const select of changeSelects(source, window, options))
              await copyEntries(client, select, undefined, sink, signal)
        })
      } catch (error) {
        signal.throwIfAborted()
        throw translate(error, `Reading the changes of index ${source.index} of ${source.dataset}`, 'SOURCE_CHANGED')
      }
    },
  }
}

/**
 * Runs `body` while the changes of the window can be read: tables locked against DDL, capture unbroken since `from`, and, looked at once
 * more afterwards (read committed, so each statement sees the present), types unchanged and nothing pruned meanwhile.
 */
export async function inWindow<T>(
  client: ClientBase,
  sources: readonly Source[],
  window: Window,
  body: () => Promise<T>,
): Promise<T> {
  return inPinned(client, 'read committed', 'read only', lockNames(sources), async () => {
    await expectReadable(client, sources, window)
    const result = await body()
    await expectReadable(client, sources, window)
    return result
  })
}

async function expectReadable(client: ClientBase, sources: readonly Source[], window: Window): Promise<void> {
  if (!(await watermarkStillThere(client, window.from))) {
    throw new SnapflipError(
      'LINEAGE_BROKEN',
      `Expected watermark ${window.from.id} in this database's history, found none: it was restored, failed over or replaced. The next version is a full build.`,
      { watermark: window.from.id },
    )
  }
  if (tablesOf(sources).length === 0) return
  const { before, now } = await factsSince(client, window.from, sources)
  expectAsResolved(sources, now)
  for (const table of now) {
    const reason = factsDiffer(formerOf(before, table), table) ?? (await gapIn(client, table, window))
    if (reason !== null) {
      throw new SnapflipError(
        'SOURCE_CHANGED',
        `Expected every change of ${table.name} since ${window.from.at}; found that ${reason}. The next version is a full build.`,
        {
          table: table.name,
          reason,
        },
      )
    }
  }
}

/** The facts stored with a watermark, and those of now. */
export async function factsSince(
  client: ClientBase,
  from: Watermark,
  sources: readonly Source[],
): Promise<{ before: readonly TableFacts[]; now: readonly TableFacts[] }> {
  const { rows } = await client.query<{ before: TableFacts[]; now: TableFacts[] }>(
    `select (select facts from snapflip.watermarks where id = $1) as before, snapflip.facts($2::oid[]) as now`,
    [from.id, tablesOf(sources).map((table) => table.relid)],
  )
  return { before: rows[0]?.before ?? [], now: rows[0]?.now ?? [] }
}

/** What happened in a window that no change tells of: TRUNCATE, a row that could not be captured. By the partial index on those. */
export async function gapIn(client: ClientBase, table: TableFacts, window: Window): Promise<string | null> {
  const condition = `op in ('t', 'x') and relid = any (${relids(leavesOf(table).map((leaf) => leaf.relid))})`
  const { rows } = await client.query<{ name: string; reason: string | null }>(
    `${windowRows('changelog', 'relid::regclass::text as name, reason', window, condition)} limit 1`,
  )
  const gap = rows[0]
  if (gap === undefined) return null
  return gap.reason === null ? `${gap.name} was truncated` : `a row of ${gap.name} could not be captured: ${gap.reason}`
}

/** One statement for each group of leaves whose text reads the same way. */
export function changeSelects(
  source: TableSource,
  window: Window,
  { reverse = false, range = null, describe = false }: WindowOptions,
): readonly string[] {
  const [before, after] = reverse ? [ADD, REMOVE] : [REMOVE, ADD]
  return leafGroups(source.table).map((group) => {
    // An update that changes nothing takes no part: its entries would cancel out.
    const rows = windowRows(
      'changelog',
      'seq, xid, relid, op, before, after',
      window,
      `relid = any (${relids(group.relids)}) and before is distinct from after`,
    )
    const images = `(values ((${before})::int2, _snapflip_w.before), ((${after})::int2, _snapflip_w.after)) as _snapflip_c (op, row)`
    const fields = describe
      ? '_snapflip_w.seq::text, _snapflip_w.xid::text, _snapflip_w.op::text, _snapflip_w.relid::regclass::text as "table"'
      : '_snapflip_c.op, _snapflip_e.*'
    return `select ${fields} from (${rows}) as _snapflip_w cross join lateral ${images}
      cross join lateral (${entriesOf(source, group.item('_snapflip_c.row'), rangeCondition(source, range))}) as _snapflip_e
      where _snapflip_c.row is not null`
  })
}

/** The last event of a key has the highest seq, since seq is taken under a lock on the key. */
export function eventsSelect(source: EventsSource, window: Window): string {
  const condition = `dataset = ${literal(source.dataset)} and index = ${literal(source.index)}`
  const rows = windowRows('events', 'seq, key, value', window, condition)
  return `select distinct on (key) ${SET}::int2 as op, key, value from (${rows}) as _snapflip_w order by key, seq desc`
}

export function relids(list: readonly number[]): string {
  return `${literal(`{${list.join(',')}}`)}::oid[]`
}

/**
 * How many change rows a window holds for these sources, counted no further than `limit`: 0 means that there is nothing new. Needs no
 * readable rows. Rows of a key that changed back count too.
 */
export async function windowSize(
  client: ClientBase,
  sources: readonly Source[],
  window: Window,
  limit = 1_000_000,
): Promise<number> {
  const parts: string[] = []
  const leaves = tablesOf(sources).flatMap((table) => leavesOf(table).map((leaf) => leaf.relid))
  if (leaves.length > 0) parts.push(windowRows('changelog', '1', window, `relid = any (${relids(leaves)})`))
  for (const source of sources) {
    if (source.kind === 'events')
      parts.push(
        windowRows('events', '1', window, `dataset = ${literal(source.dataset)} and index = ${literal(source.index)}`),
      )
  }
  if (parts.length === 0) return 0
  try {
    const { rows } = await client.query<{ n: string }>(
      `select count(*) as n from (select from (${parts.join(' union all ')}) as _snapflip_w limit ${Math.max(1, Math.trunc(limit))}) as _snapflip_l`,
    )
    return Number(rows[0]?.n)
  } catch (error) {
    throw translate(error, 'Counting changes', 'POSTGRES_FAILED')
  }
}

/**
 * Whether nothing happened in a window. Looked at as when the window is read: capture that was interrupted leaves an empty window too.
 * Throws LINEAGE_BROKEN and SOURCE_CHANGED.
 */
export async function isEmptyWindow(client: ClientBase, sources: readonly Source[], window: Window): Promise<boolean> {
  try {
    return await inWindow(client, sources, window, async () => (await windowSize(client, sources, window, 1)) === 0)
  } catch (error) {
    throw translate(error, 'Looking for changes', 'SOURCE_CHANGED')
  }
}

/** The snapshot of now, without an anchor: good for looking (`status`, lag), not for building upon. */
export async function currentSnapshot(client: ClientBase): Promise<string> {
  const { rows } = await client.query<{ snapshot: string }>('select pg_current_snapshot()::text as snapshot')
  return rows[0]?.snapshot ?? ''
}
