import type { ClientBase } from 'pg'
import type { Watermark } from '../../schemas/manifest.ts'
import { ADD, type EntrySource } from '../snapshot/entry.ts'
import { copyEntries } from './copy.ts'
import { translate } from './failure.ts'
import { entriesOf, literal, rowsOf, tableItem } from './projection.ts'
import { type Range, rangeCondition } from './ranges.ts'
import type { EventsSource, Source } from './source.ts'

export type { Range } from './ranges.ts'

/**
 * All entries of the source (or of one range of it) as ADDs, in the snapshot of the transaction that the client is in: see `inWatermark`.
 * For events: the last value of each key, deleted keys left out.
 */
export function scanSource(client: ClientBase, source: Source, range: Range | null = null): EntrySource {
  return {
    async read(sink, signal) {
      try {
        await copyEntries(client, scanSelect(source, range), ADD, sink, signal)
      } catch (error) {
        signal.throwIfAborted()
        throw translate(
          error,
          `Reading the source of index ${source.index} of ${source.dataset}`,
          'DEFINITION_INVALID',
          {
            dataset: source.dataset,
            index: source.index,
          },
        )
      }
    },
  }
}

export function scanSelect(source: Source, range: Range | null): string {
  if (source.kind === 'table') return entriesOf(source, tableItem(source.table), rangeCondition(source, range))
  return lastEvents(source, 'true')
}

/**
 * The entries of an index of events as a watermark sees them, at whatever time: the events that it needs are there for as long as it is itself
 * (see `prune`). The caller has looked for it in the snapshot of the same transaction.
 */
export function scanEventsAt(client: ClientBase, source: EventsSource, watermark: Watermark): EntrySource {
  const select = lastEvents(source, `pg_visible_in_snapshot(xid, ${literal(watermark.snapshot)}::pg_snapshot)`)
  return {
    async read(sink, signal) {
      await copyEntries(client, select, ADD, sink, signal)
    },
  }
}

function lastEvents({ dataset, index }: EventsSource, condition: string): string {
  return `select key, value from (select distinct on (key) key, value from snapflip.events
    where dataset = ${literal(dataset)} and index = ${literal(index)} and ${condition} order by key, seq desc) as _snapflip_e where value is not null`
}

/** How many entries the source has in the transaction's snapshot. Reads all of it. */
export async function countSource(client: ClientBase, source: Source): Promise<number> {
  const select =
    source.kind === 'table'
      ? `select from ${tableItem(source.table)} where ${rowsOf(source)}`
      : `select from (${scanSelect(source, null)}) as _snapflip_s`
  try {
    const { rows } = await client.query<{ n: string }>(`select count(*) as n from (${select}) as _snapflip_n`)
    return Number(rows[0]?.n)
  } catch (error) {
    throw translate(error, `Counting the source of index ${source.index} of ${source.dataset}`, 'DEFINITION_INVALID')
  }
}
