import type { ClientBase } from 'pg'
import type { DatasetDefinition } from '../../schemas/config.ts'
import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import { listCaptures, preflight } from '../changelog/capture.ts'
import { resolveSource } from '../changelog/definition.ts'
import { estimatedRows } from '../changelog/estimated-rows.ts'
import { captureFault, leavesOf } from '../changelog/facts.ts'
import { sampleSource } from '../changelog/sample.ts'
import { inSnapshot } from '../changelog/session.ts'
import { capturedTables, lockNames, type Source } from '../changelog/source.ts'
import { watermarkStillThere } from '../changelog/watermark.ts'
import { whyFull } from '../changelog/why-full.ts'
import { currentSnapshot } from '../changelog/window.ts'
import { type DefinitionChange, definitionChanges } from '../core/definition-changes.ts'
import { SnapflipError } from '../core/errors.ts'
import { youngIndexes } from '../core/time-bound.ts'
import { checkQueries } from '../gates/check-queries.ts'
import { appliedStore } from '../registry/applied-store.ts'
import { currentDefinition } from '../registry/current-definition.ts'
import { furtherStores } from '../registry/further-stores.ts'
import type { Db } from '../registry/transaction.ts'
import { declaredOptions } from './definition-defaults.ts'
import { nextParent } from './next-parent.ts'
import { policyLines } from './policy-lines.ts'
import type { Session } from './session.ts'
import { tableNames, usedElsewhere } from './used-tables.ts'

/** Enough for an estimate of bytes within a few percent, and quick on any table. */
const SAMPLE_ROWS = 500
/** What LZ4 leaves of JSON rows in blocks, measured; and what stands around the entries in a store. */
const STORED_SHARE = 0.6

export interface IndexPlan {
  index: string
  from: string | null
  build: 'full' | 'incremental'
  /** Why the source is read in full. */
  reason: string | null
  /** Estimated; null where there is nothing to estimate from. */
  entries: number | null
  bytes: number | null
}

export interface DatasetPlan {
  dataset: string
  definition: 'new' | 'changed' | 'as applied'
  /** Of a changed one, against the policy in force; of a new one, against what holds without it: all that it declares. */
  changes: DefinitionChange[]
  /** What a new one says of its refreshes, a sentence each. */
  policy: string[]
  attach: string[]
  /** Tables that this definition no longer uses, nor any other. */
  detach: string[]
  /** What of the dataset the store has lost, and what the next refresh makes of it; null when nothing. */
  lost: string | null
  indexes: IndexPlan[]
  /** Of the schedule in Temporal; null: none is declared, nor was. */
  schedule: 'make' | 'change' | 'remove' | 'as applied' | null
  /** `movedFrom`: where its versions are now, if that is another store. */
  store: {
    name: string
    url: string
    movedFrom: string | null
    freeBytes: number | null
    neededBytes: number | null
    fits: boolean
  }
  /** Stores that it is published to beside the first: those to come, and those that the definition does not name any more. */
  furtherStores: { declared: string[]; add: string[]; remove: string[] }
}

/** What applying the definition would change, and what the next refresh would do. Changes nothing. @throws SnapflipError DEFINITION_INVALID … */
export async function planOf(
  session: Session,
  client: ClientBase,
  registry: Db,
  dataset: string,
): Promise<DatasetPlan> {
  const definition = await session.dataset(dataset)
  const sources: Source[] = []
  for (const [index, declared] of Object.entries(definition.indexes))
    sources.push(await resolveSource(client, dataset, index, declared))
  await checkQueries(client, dataset, definition.gates)
  const applied = await currentDefinition(registry, dataset)
  // As the registry keeps it: JSON.
  const wanted = JSON.parse(JSON.stringify(definition))
  const changes = applied === null ? declaredOptions(definition) : definitionChanges(applied.definition, wanted)
  const store = await session.store(dataset)
  const { name } = await session.storeUrl(dataset)
  const { manifest: parent, lost } = await nextParent(applied === null ? null : registry, store, dataset)
  const freshAsOfAt = (await store.pointer.read())?.pointer.freshAsOf?.at ?? null
  const young =
    parent === null ? new Set<string>() : youngIndexes(definition, { manifest: parent, freshAsOfAt }, new Date())
  const found = { ...(await changesSince(client, sources, parent)), asked: null, young }

  const indexes: IndexPlan[] = []
  for (const source of sources) {
    const former = parent?.indexes[source.index] ?? null
    const reason = parent === null && lost !== null ? lost : whyFull(source, former, found)
    const size = reason === null && former !== null ? sizeOf(former) : await estimate(client, source)
    indexes.push({
      index: source.index,
      from: source.kind === 'table' ? source.table.name : null,
      build: reason === null ? 'incremental' : 'full',
      reason,
      ...size,
    })
  }
  const freeBytes = await store.freeBytes()
  // An incremental build writes changed blocks only: nobody knows yet how many, so only what is built in full counts.
  const full = indexes.filter(({ build }) => build === 'full')
  const neededBytes = full.some(({ from, bytes }) => from !== null && bytes === null)
    ? null
    : Math.ceil(full.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0) * STORED_SHARE)
  return {
    dataset,
    definition: applied === null ? 'new' : changes.length === 0 ? 'as applied' : 'changed',
    changes,
    policy: applied === null ? policyLines(definition) : [],
    attach: capturedTables(sources)
      .filter((table) => captureFault(table) !== null)
      .map(({ name }) => name),
    detach: await noLongerUsed(session, client, registry, dataset, applied?.definition ?? null, sources),
    lost,
    indexes,
    schedule: scheduleChange(applied?.definition.schedule, definition.schedule),
    store: {
      name,
      url: store.url,
      movedFrom: await movedFrom(registry, dataset, store.url),
      freeBytes,
      neededBytes,
      fits: freeBytes === null || (neededBytes ?? 0) <= freeBytes,
    },
    furtherStores: await furtherStoresOf(session, registry, dataset),
  }
}

async function furtherStoresOf(session: Session, registry: Db, dataset: string): Promise<DatasetPlan['furtherStores']> {
  const declared = await session.furtherStores(dataset)
  const known = (await furtherStores(registry, dataset)).filter(({ state }) => state !== 'removed')
  const urls = declared.map(({ store }) => store.url)
  return {
    declared: declared.map(({ name }) => name),
    add: declared.filter(({ store }) => !known.some((row) => row.store === store.url)).map(({ name }) => name),
    remove: known.filter((row) => !urls.includes(row.store)).map(({ name, store }) => `${name} (${store})`),
  }
}

function scheduleChange(
  applied: DatasetDefinition['schedule'],
  wanted: DatasetDefinition['schedule'],
): DatasetPlan['schedule'] {
  if (wanted === undefined) return applied === undefined ? null : 'remove'
  if (applied === undefined) return 'make'
  return canonical(applied) === canonical(wanted) ? 'as applied' : 'change'
}

async function movedFrom(registry: Db, dataset: string, url: string): Promise<string | null> {
  // Not applied yet: it moves from nowhere.
  if ((await currentDefinition(registry, dataset)) === null) return null
  const applied = await appliedStore(registry, dataset)
  return applied.url === url ? null : applied.url
}

/** Whether the changes since the version are all there, as the refresh will find it. */
async function changesSince(
  client: ClientBase,
  sources: readonly Source[],
  parent: Manifest | null,
): Promise<{ lineageBroken: boolean; faults: Map<string, string> }> {
  const faults = new Map<string, string>()
  if (parent === null) return { lineageBroken: false, faults }
  if (!(await watermarkStillThere(client, parent.watermark))) return { lineageBroken: true, faults }
  for (const table of await preflight(client, sources, parent.watermark, await currentSnapshot(client)))
    if (!table.ok) faults.set(table.table, table.reason)
  return { lineageBroken: false, faults }
}

const sizeOf = ({ count, bytes }: IndexManifest) => ({ entries: count, bytes })

/** From PostgreSQL's own statistics and a sample of rows. A `where` is not accounted for: the estimate is an upper one. */
async function estimate(client: ClientBase, source: Source): Promise<{ entries: number | null; bytes: number | null }> {
  if (source.kind === 'events') return { entries: null, bytes: null }
  return inSnapshot(client, lockNames([source]), async () => {
    const entries = await sampleSource(client, source, SAMPLE_ROWS, new AbortController().signal)
    const sampled = entries.reduce(
      (sum, { key, order, value }) => sum + key.length + value.length + (order?.length ?? -4) + 12,
      0,
    )
    if (entries.length < SAMPLE_ROWS) return { entries: entries.length, bytes: sampled }
    const tuples = await estimatedRows(
      client,
      leavesOf(source.table).map((leaf) => leaf.relid),
    )
    // The sample says otherwise.
    if (tuples < entries.length) return { entries: null, bytes: null }
    return { entries: Math.round(tuples), bytes: Math.round((sampled / entries.length) * tuples) }
  })
}

async function noLongerUsed(
  session: Session,
  client: ClientBase,
  registry: Db,
  dataset: string,
  applied: DatasetDefinition | null,
  sources: readonly Source[],
): Promise<string[]> {
  if (applied === null) return []
  const still = new Set(capturedTables(sources).map(({ name }) => name))
  const elsewhere = await usedElsewhere(session, client, registry, dataset)
  const before = await tableNames(client, Object.values(applied.indexes))
  const captured = new Set((await listCaptures(client)).map(({ name }) => name))
  return before.filter((name) => captured.has(name) && !still.has(name) && !elsewhere.has(name))
}

/** JSON with its keys in one order: the registry's jsonb has an order of its own. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

/** @throws SnapflipError STORE_FULL when a full build cannot fit: before anything is changed. */
export function requireRoom({ dataset, store }: DatasetPlan): void {
  if (store.fits) return
  throw new SnapflipError(
    'STORE_FULL',
    `Expected room for about ${store.neededBytes} bytes of ${dataset} in ${store.url}, found ${store.freeBytes} free. Give it more, or lower \`keep\`.`,
    { dataset, store: store.url, neededBytes: store.neededBytes, freeBytes: store.freeBytes },
  )
}
