import type { ClientBase } from 'pg'
import { ADD, type EntrySink } from '../snapshot/entry.ts'
import { copyEntries } from './copy.ts'
import { leavesOf } from './facts.ts'
import { translate } from './failure.ts'
import { entriesOf, literal, tableItem } from './projection.ts'
import { scanSelect } from './scan.ts'
import type { Source, TableSource } from './source.ts'

/** An entry of a sample, its bytes as in the version. */
export interface SampledEntry {
  readonly key: Buffer
  /** Of a `many` index. */
  readonly order: Buffer | null
  readonly value: Buffer
}

/** Pages are sampled whole, so more rows are drawn than are wanted. */
const OVERDRAW = 3
/** How often a sample that came out too small (stale statistics, a rare `where`) is drawn again from ten times as much. */
const DRAWS_MAX = 4

/** About `n` random entries of the source, in the transaction's snapshot (see `inSnapshot`); fewer only when there are no more. */
export async function sampleSource(
  client: ClientBase,
  source: Source,
  n: number,
  signal: AbortSignal,
): Promise<SampledEntry[]> {
  const limit = Math.max(1, Math.trunc(n))
  try {
    let percent =
      source.kind === 'table' && 'rpm'.includes(source.table.kind) ? await percentOf(client, source, limit) : 100
    for (let draw = 1; ; draw++) {
      const whole = percent >= 100 || draw >= DRAWS_MAX
      const sampled =
        whole || source.kind !== 'table'
          ? scanSelect(source, null)
          : entriesOf(source, `${tableItem(source.table)} tablesample system (${percent})`)
      const entries = await collect(
        client,
        source,
        `select * from (${sampled}) as _snapflip_s order by random() limit ${limit}`,
        signal,
      )
      if (whole || entries.length >= limit) return entries
      percent *= 10
    }
  } catch (error) {
    throw translate(error, `Sampling the source of index ${source.index} of ${source.dataset}`, 'SOURCE_CHANGED')
  }
}

async function percentOf(client: ClientBase, source: TableSource, n: number): Promise<number> {
  const { rows } = await client.query<{ tuples: number }>(
    'select sum(greatest(reltuples, 0))::float8 as tuples from pg_class where oid = any ($1::oid[])',
    [leavesOf(source.table).map((leaf) => leaf.relid)],
  )
  const tuples = rows[0]?.tuples ?? 0
  return tuples <= n * OVERDRAW ? 100 : (n * OVERDRAW * 100) / tuples
}

/**
 * The entries that these keys have in the transaction's snapshot, or null when single keys cannot be looked up cheaply: the key is an
 * expression, or no index leads on its columns.
 */
export async function readKeys(
  client: ClientBase,
  source: Source,
  keys: readonly Buffer[],
  signal: AbortSignal,
): Promise<SampledEntry[] | null> {
  if (keys.length === 0) return []
  const select = source.kind === 'events' ? eventsOf(source.dataset, source.index, keys) : lookupSelect(source, keys)
  if (select === null) return null
  try {
    return await collect(client, source, select, signal)
  } catch (error) {
    throw translate(error, `Looking up keys of index ${source.index} of ${source.dataset}`, 'SOURCE_CHANGED')
  }
}

function lookupSelect(source: TableSource, keys: readonly Buffer[]): string | null {
  if (source.lookup === null) return null
  const parts = keys.map((key) => key.toString('utf8').split('\0')).filter((key) => key.length === source.keyParts)
  const columns = source.lookup.map(({ column }) => `${source.table.alias}.${column}`)
  const arrays = source.lookup.map((_, n) => `array[${parts.map((key) => literal(key[n] ?? '')).join(', ')}]::text[]`)
  const casts = source.lookup.map(({ type }, n) => `_snapflip_k.p${n}::${type}`)
  const names = source.lookup.map((_, n) => `p${n}`)
  const wanted = `(${columns.join(', ')}) in (select ${casts.join(', ')} from unnest(${arrays.join(', ')}) as _snapflip_k (${names.join(', ')}))`
  // Equal values may be written differently (numeric 1 and 1.0): what counts is the key's bytes.
  return `select * from (${entriesOf(source, tableItem(source.table), wanted)}) as _snapflip_s where _snapflip_key = any (${keyArray(source, keys)})`
}

/** SQL for these keys, of the type that the source's key expression has. */
export function keyArray(source: Source, keys: readonly Buffer[]): string {
  if (source.kind === 'events' || source.keyParts > 1)
    return `array[${keys.map((key) => literal(`\\x${key.toString('hex')}`)).join(', ')}]::bytea[]`
  return `array[${keys.map((key) => literal(key.toString('utf8'))).join(', ')}]::text[]`
}

function eventsOf(dataset: string, index: string, keys: readonly Buffer[]): string {
  const array = `array[${keys.map((key) => literal(`\\x${key.toString('hex')}`)).join(', ')}]::bytea[]`
  return `select key, value from (select distinct on (key) key, value from snapflip.events
    where dataset = ${literal(dataset)} and index = ${literal(index)} and key = any (${array}) order by key, seq desc) as _snapflip_e where value is not null`
}

async function collect(
  client: ClientBase,
  source: Source,
  select: string,
  signal: AbortSignal,
): Promise<SampledEntry[]> {
  const entries: SampledEntry[] = []
  const many = source.kind === 'table' && source.order !== null
  const sink: EntrySink = {
    entry(_op, bytes, _start, end, keyStart, keyEnd) {
      const orderEnd = many ? keyEnd + 4 + bytes.readInt32BE(keyEnd) : keyEnd
      entries.push({
        key: Buffer.from(bytes.subarray(keyStart, keyEnd)),
        order: many ? Buffer.from(bytes.subarray(keyEnd + 4, orderEnd)) : null,
        value: Buffer.from(bytes.subarray(orderEnd + 4, end)),
      })
    },
    ready: () => undefined,
  }
  await copyEntries(client, select, ADD, sink, signal)
  return entries
}
