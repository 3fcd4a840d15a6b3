import type { ClientBase } from 'pg'
import { translate } from './failure.ts'
import { literal } from './projection.ts'
import { keyArray } from './sample.ts'
import type { Source } from './source.ts'
import { changeSelects, eventsSelect, inWindow, type Window, windowRows } from './window.ts'

/** One captured change. `op`: insert, update, delete as `i`, `u`, `d`; `e` is an event. */
export interface Change {
  readonly seq: string
  readonly xid: string
  readonly op: string
  /** The table that was written; null for events. */
  readonly table: string | null
}

/**
 * The last change of a key within a window, null when there is none. Two changes of one transaction are told apart by seq; changes of one key
 * by different transactions are in the order in which they were made. Reads the whole window: for people, not for builds.
 */
export async function lastChange(
  client: ClientBase,
  source: Source,
  key: Buffer,
  window: Window,
): Promise<Change | null> {
  const wanted = keyArray(source, [key])
  try {
    return await inWindow(client, [source], window, async () => {
      const found: Change[] = []
      for (const rows of selects(source, window)) {
        const result = await client.query<Change>(
          `${rows} and _snapflip_key = any (${wanted}) order by seq desc limit 1`,
        )
        found.push(...result.rows)
      }
      return found.sort((a, b) => (BigInt(a.seq) < BigInt(b.seq) ? 1 : -1))[0] ?? null
    })
  } catch (error) {
    throw translate(
      error,
      `Looking for changes of a key of index ${source.index} of ${source.dataset}`,
      'SOURCE_CHANGED',
    )
  }
}

function selects(source: Source, window: Window): readonly string[] {
  if (source.kind === 'table') return changeSelects(source, window, { describe: true })
  const condition = `dataset = ${literal(source.dataset)} and index = ${literal(source.index)}`
  const rows = windowRows('events', `seq, xid, 'e' as op, null as "table", key as _snapflip_key`, window, condition)
  return [`select seq::text, xid::text, op, "table" from (${rows}) as _snapflip_w where true`]
}

/**
 * The keys that a window touches, as hex of their bytes; null when there are more than `limit`. What a comparison of source and version sets
 * aside.
 */
export async function changedKeys(
  client: ClientBase,
  source: Source,
  window: Window,
  limit: number,
): Promise<ReadonlySet<string> | null> {
  const keys = new Set<string>()
  try {
    await inWindow(client, [source], window, async () => {
      const statements = source.kind === 'table' ? changeSelects(source, window, {}) : [eventsSelect(source, window)]
      const key = source.kind === 'table' ? '_snapflip_key' : 'key'
      const bytes = source.kind === 'events' || source.keyParts > 1 ? key : `convert_to(${key}, 'UTF8')`
      for (const statement of statements) {
        const { rows } = await client.query<{ key: string }>(
          `select distinct encode(${bytes}, 'hex') as key from (${statement}) as _snapflip_s limit ${Math.trunc(limit) + 1}`,
        )
        for (const row of rows) keys.add(row.key)
      }
    })
  } catch (error) {
    throw translate(error, `Reading the changed keys of index ${source.index} of ${source.dataset}`, 'SOURCE_CHANGED')
  }
  return keys.size > limit ? null : keys
}
