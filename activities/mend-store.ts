import { type Loss, lossOf } from '../src/core/asserted-pointer.ts'
import { requireStore } from '../src/registry/apply-store.ts'
import { openCanary } from '../src/registry/canaries.ts'
import { confirmedFlips, openFlips } from '../src/registry/flips.ts'
import type { LastInStore } from '../src/registry/last-in-stores.ts'
import { openRefreshOf } from '../src/registry/open-refresh-of.ts'
import { sinceIntended } from '../src/registry/since-intended.ts'
import { absorbBreakGlass } from './absorb.ts'
import type { Looking } from './damage.ts'
import { type Deps, datasetOf } from './deps.ts'
import { bringUp, followAll, furtherStoreOf, leaveBehind } from './follow.ts'
import { moversOf, RECENT_MAX } from './movers.ts'
import { repair } from './reconcile.ts'

/** What a look at a store found, against what the registry knows of it. */
export interface StoreFinding {
  dataset: string
  /** As the definition calls the store. */
  store: string
  found: Loss | 'unabsorbed'
  last: LastInStore
}

/** `elsewhere`: another does it. `left`: what was confirmed last is not whole there, and nothing was written. */
export type Mended = 'done' | 'elsewhere' | 'left'

/**
 * Whoever intended a flip tries to make it for no longer, and repairs the store when that restarted meanwhile. A repair from here would issue an
 * epoch above it, and keep it from being made: a rollback that takes back a bad version, say.
 */
const MAKERS_MS = 20 * 60_000
/**
 * The same where no workflow is at work on it, at the prompt say, or Temporal cannot be asked; and of a canary, which is open for as long as it runs: a
 * further store would stay without what it lost.
 */
const WITHOUT_WORKFLOW_MS = 60_000

/**
 * What the worker's look at the stores does about what it found: the same repair as that of a refresh, without one. One worker at a time for each
 * dataset: each would read it whole, or copy it back.
 */
export async function mendStore(deps: Deps, finding: StoreFinding, signal: AbortSignal): Promise<Mended> {
  const { dataset } = finding
  if (await isBeingMade(deps, dataset)) return 'elsewhere'
  const looking: Looking = {
    dataset,
    tell: (progress) => deps.log.debug({ dataset, step: 'reconcile' }, progress),
    signal,
  }
  // Not one of the pool's: it is kept for as long as the repair takes, and that needs those.
  const client = await deps.builder()
  try {
    const { rows } = await client.query<{ isMine: boolean }>(LOCK, [`snapflip: the stores of ${dataset}`])
    if (rows[0]?.isMine !== true) return 'elsewhere'
    return await (finding.store === datasetOf(deps.config, dataset).stores[0]
      ? mendFirst(deps, looking)
      : mendFurther(deps, looking, finding))
  } finally {
    // PostgreSQL may hear of the connection's end only after the next look; where the connection is broken, that ends it.
    await client.query('select pg_advisory_unlock_all()').catch(() => undefined)
    await client.end()
  }
}

/** It ends with the connection at the latest. */
const LOCK = 'select pg_try_advisory_lock(hashtextextended($1, 0)) as "isMine"'

async function isBeingMade(deps: Deps, dataset: string): Promise<boolean> {
  if (((await openCanary(deps.pool, dataset))?.elapsedMs ?? WITHOUT_WORKFLOW_MS) < WITHOUT_WORKFLOW_MS) return true
  const ageMs = await sinceIntended(deps.pool, dataset)
  if (ageMs === null || ageMs >= MAKERS_MS) return false
  if (ageMs < WITHOUT_WORKFLOW_MS) return true
  const makers = await makersOf(deps, dataset)
  try {
    for (const { workflowId, runId } of makers) if (await deps.isRunning(workflowId, runId)) return true
  } catch (error) {
    deps.log.warn(
      { dataset, step: 'reconcile', err: error },
      'Temporal does not say who is at work; the store is mended',
    )
  }
  return false
}

/** Of a refresh its run: another one of its id may wait for its window. */
async function makersOf({ pool }: Deps, dataset: string): Promise<{ workflowId: string; runId?: string }[]> {
  const refresh = await openRefreshOf(pool, dataset)
  const open = await openFlips(pool, dataset)
  const recent = await confirmedFlips(pool, dataset, RECENT_MAX)
  const movers = moversOf(dataset, open, recent).map((workflowId) => ({ workflowId }))
  return refresh === null ? movers : [...movers, refresh]
}

async function mendFirst(deps: Deps, looking: Looking): Promise<Mended> {
  if (!(await repairFirst(deps, looking))) return 'left'
  await followAll(deps, looking)
  return 'done'
}

/** False: there is nothing to bring it back to. */
async function repairFirst(deps: Deps, looking: Looking): Promise<boolean> {
  const { dataset } = looking
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  const repaired = await repair(deps, store, { ...looking, isUnasked: true })
  if (repaired?.outcome === 'left') return false
  await absorbBreakGlass(deps, store, dataset)
  return true
}

/** A further store takes over what the first one says, which may have been on the same server: that is looked at before. */
async function mendFurther(deps: Deps, looking: Looking, { store: name, found, last }: StoreFinding): Promise<Mended> {
  const { dataset } = looking
  const further = await furtherStoreOf(deps, dataset, name)
  const { store } = further
  const read = await store.pointer.read()
  const stored = read?.pointer
  // Another worker mended it after the look.
  if (lossOf(stored ?? null, await store.pointer.isBound(), last) === null) return 'elsewhere'
  if (!(await repairFirst(deps, looking))) return 'left'
  const isRecorded = await deps.alert({
    kind: 'STORE_REBOUND',
    dataset,
    version: stored?.active?.tag ?? null,
    incident: `${store.url}: ${found}, flip ${last.flipId}, ${read?.token ?? 'no pointer'}`,
    summary: `${name} (${store.url}) ${FOUND[found]}; it takes over what the first store of ${dataset} says, and what it lost is copied there`,
    evidence: {
      store: store.url,
      found,
      outcome: 'follows',
      confirmed: { epoch: last.epoch },
      stored: stored === undefined ? null : { tag: stored.active?.tag ?? null, epoch: stored.epoch },
    },
  })
  if (!isRecorded) return 'elsewhere'
  await bringUp(deps, further, looking).catch(async (error: unknown) => {
    looking.signal.throwIfAborted()
    await leaveBehind(deps, dataset, further, error instanceof Error ? error.message : String(error))
  })
  return 'done'
}

const FOUND: Record<StoreFinding['found'], string> = {
  missing: 'came back without a pointer',
  rebound: 'restarted or failed over',
  behind: 'came back older',
  unabsorbed: 'holds what the registry has not',
}
