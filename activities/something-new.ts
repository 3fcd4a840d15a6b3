import { setTimeout as sleep } from 'node:timers/promises'
import type { DatasetDefinition } from '../schemas/config.ts'
import { resolveSource } from '../src/changelog/definition.ts'
import { newRows } from '../src/changelog/new-rows.ts'
import type { Source } from '../src/changelog/source.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { dueAt } from '../src/core/time-bound.ts'
import { activeHold } from '../src/registry/active-hold.ts'
import { awaitedBake } from '../src/registry/bakes.ts'
import { openRefreshOf } from '../src/registry/open-refresh-of.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { readManifest } from './parent.ts'
import { definitionOf } from './under-policy.ts'
import { outsideWindow } from './window.ts'

/** One look-up in an index each; what it finds is refreshed this much later at most. */
const LOOK_EVERY_MS = 50
/** Holds and windows change seldom. */
const LOOK_UP_EVERY_MS = 1_000
/** Then it is asked anew, and reads the definition and the pointer again. */
const LOOK_FOR_MS = 10 * 60_000
/** What PostgreSQL says of the tables is kept as long. */
const SOURCES_FOR_MS = 60_000

/** What ended the wait for something new. */
export interface Found {
  atMostEveryMs: number
  /** The snapshot in which there was something new; null: there was nothing for a long time. */
  seen: string | null
}

/** From where on changes count as new. */
export interface Look {
  dataset: string
  /** A gate has refused the changes up to this snapshot; null: none has. */
  since: string | null
  /** When the refresh began that it refused. */
  refusedAt?: string
}

/**
 * Waits until a refresh of the dataset may run and would find something: it is on no hold, its windows are open, no refresh runs, and there are
 * changes since the active version (or since what a gate refused), or a source without capture is due to be read again.
 */
export const somethingNew = (deps: Deps) => {
  // Looked up again now and then: a partition may have come.
  const known = new Map<string, { sources: Source[]; at: number }>()
  return ({ dataset, since, refusedAt }: Look): Promise<Found> =>
    asActivity(async (tell, signal) => {
      const definition = await definitionOf(deps, dataset)
      const atMostEveryMs = requireContinuous(dataset, definition)
      const begun = Date.now()
      let looksUpAt = 0
      let waits: Wait | null = null
      let basis: Basis | null = null
      while (Date.now() - begun < LOOK_FOR_MS) {
        if (Date.now() >= looksUpAt) {
          waits = await whyNot(deps, dataset, definition)
          looksUpAt = Date.now() + LOOK_UP_EVERY_MS
          tell(waits?.why ?? 'looking for something new')
        }
        if (waits !== null) basis = null
        else {
          basis ??= await basisOf(deps, dataset, definition, refusedAt ?? null)
          const sources = known.get(dataset)
          if (sources === undefined || sources.at < Date.now() - SOURCES_FOR_MS)
            known.set(dataset, { sources: await sourcesOf(deps, dataset, definition), at: Date.now() })
          const seen = await newRows(deps.pool, known.get(dataset)?.sources ?? [], since ?? basis.since)
          if (seen !== null || basis.dueAt <= Date.now()) {
            // Asked again: to find a hold or a refresh that has just begun by being refused would be reported as a skip.
            waits = await whyNot(deps, dataset, definition)
            if (waits === null) return { atMostEveryMs, seen: seen ?? (await newRows(deps.pool, [], null)) }
          }
        }
        await sleep(waits === null ? LOOK_EVERY_MS : LOOK_UP_EVERY_MS, undefined, { signal })
      }
      // One that is open for so long may be dead: the next refresh finds out, and takes it over or says that it runs.
      return { atMostEveryMs, seen: waits?.runs ? await newRows(deps.pool, [], null) : null }
    })
}

function requireContinuous(dataset: string, { schedule }: DatasetDefinition): number {
  if (schedule?.continuous !== undefined) return schedule.continuous.atMostEveryMs
  throw new SnapflipError(
    'NOT_APPLIED',
    `Expected \`schedule.continuous\` in the definition of ${dataset} that was applied last, found none. Declare it, then \`snapflip apply ${dataset}\`.`,
    { dataset },
  )
}

/** What is in the way of a refresh. */
interface Wait {
  why: string
  /** Another refresh, or the bake that the next one waits for: whose workflow may be dead. */
  runs: boolean
}

async function whyNot(deps: Deps, dataset: string, definition: DatasetDefinition): Promise<Wait | null> {
  const hold = await activeHold(deps.pool, dataset)
  if (hold !== null) return { why: `on hold by ${hold.by}: ${hold.reason}`, runs: false }
  const outside = outsideWindow(definition)
  if (outside !== null) return { why: outside.summary, runs: false }
  const bake = await awaitedBake(deps.pool, dataset)
  if (bake !== null) return { why: `${bake.tag} bakes until about ${bake.until.toISOString()}`, runs: true }
  const open = await openRefreshOf(deps.pool, dataset)
  return open === null ? null : { why: `a refresh runs, open since ${open.openedAt.toISOString()}`, runs: true }
}

/** What there may be something newer than. */
interface Basis {
  /** Null: there is no version yet. */
  since: string | null
  /** When a source without capture is to be read again. */
  dueAt: number
}

async function basisOf(
  deps: Deps,
  dataset: string,
  definition: DatasetDefinition,
  refusedAt: string | null,
): Promise<Basis> {
  const store = await deps.store(dataset)
  const pointer = (await store.pointer.read())?.pointer ?? null
  if (pointer === null || pointer.active === null) return { since: null, dueAt: dueAt(definition, null, refusedAt) }
  const byAge = Object.values(definition.indexes).some((index) => 'rebuildAfterMs' in index)
  if (pointer.freshAsOf !== null && !byAge)
    return { since: pointer.freshAsOf.snapshot, dueAt: Number.POSITIVE_INFINITY }
  const manifest = await readManifest(store, dataset, pointer.active)
  const version = { manifest, freshAsOfAt: pointer.freshAsOf?.at ?? null }
  return {
    since: pointer.freshAsOf?.snapshot ?? manifest.watermark.snapshot,
    dueAt: dueAt(definition, version, refusedAt),
  }
}

async function sourcesOf(deps: Deps, dataset: string, definition: DatasetDefinition): Promise<Source[]> {
  const sources: Source[] = []
  const client = await deps.builder()
  try {
    for (const [name, index] of Object.entries(definition.indexes))
      sources.push(await resolveSource(client, dataset, name, index))
    return sources
  } finally {
    await client.end()
  }
}
