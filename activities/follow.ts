import { isDeepStrictEqual } from 'node:util'
import type { Pointer, VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import { followedPointer } from '../src/core/followed-pointer.ts'
import { pinInForce } from '../src/core/readers-on.ts'
import { copies, forgetCopies } from '../src/registry/copies.ts'
import { flipOf } from '../src/registry/flips.ts'
import { recordDegraded, recordFollowed } from '../src/registry/further-store-state.ts'
import { furtherStores } from '../src/registry/further-stores.ts'
import { decodeManifest, manifestHash } from '../src/snapshot/manifest.ts'
import type { FurtherStore, PointerRead, Store } from '../src/stores/ports.ts'
import { copyToFurtherStore, stands } from './copy-version.ts'
import { damageOf, type Looking } from './damage.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

/** Another change of one of the two pointers came first: each time both are read anew. */
const ATTEMPTS = 8

export interface FollowRequest {
  dataset: string
  /** As the definition calls it. */
  store: string
}

/** What following needs of the world: `Deps`, or what the command line opened. */
export type FollowDeps = Pick<Deps, 'pool' | 'log' | 'alert' | 'store' | 'furtherStores'>

/** Brings a further store up: copies there what it lacks of what readers are on and may go back to, and sets its pointer to what the first store's says. */
export const follow =
  (deps: Deps) =>
  ({ dataset, store }: FollowRequest): Promise<void> =>
    asActivity(async (tell, signal) => {
      const further = await furtherStoreOf(deps, dataset, store)
      await bringUp(deps, further, { dataset, tell, signal })
    })

/** Records that a further store stays behind, and tells of it, once for as long as it does. */
export const degrade =
  (deps: Deps) =>
  ({ dataset, store, why }: FollowRequest & { why: string }): Promise<void> =>
    asActivity(async () => leaveBehind(deps, dataset, await furtherStoreOf(deps, dataset, store), why))

/** @throws SnapflipError CONFIG_INVALID when the definition of this worker does not name it. */
export async function furtherStoreOf(deps: FollowDeps, dataset: string, name: string): Promise<FurtherStore> {
  const further = await deps.furtherStores(dataset)
  const found = further.find((one) => one.name === name)
  if (found !== undefined) return found
  const known = further.map((one) => one.name).join(', ') || 'none'
  throw new SnapflipError(
    'CONFIG_INVALID',
    `Expected ${name} among the further stores of ${dataset}, found ${known}.`,
    {
      dataset,
    },
  )
}

/**
 * After a change of the first store's pointer: every further store that has the version takes it over. What cannot be done now is recorded and told,
 * and done by the next refresh or rollback; nobody is kept waiting for it.
 */
export async function followAll(deps: FollowDeps, looking: Looking): Promise<void> {
  const stores = await deps.furtherStores(looking.dataset)
  if (stores.length === 0) return
  const first = await deps.store(looking.dataset)
  const isKnown = await first.pointer.read().then(
    () => true,
    // It fails the work that this follows, or what comes next; no further store is behind for that.
    () => false,
  )
  if (!isKnown) return
  for (const further of stores) {
    try {
      const lacks = await takeOver(deps, further, looking)
      if (lacks === null) continue
      const { tag } = lacks.ref
      deps.log.info({ ...named(looking, further), lacks: tag }, 'not brought up yet')
      const own = (await further.store.pointer.read())?.pointer.active ?? null
      // New, it has no readers yet. On the version still, its readers are where they should be, whatever it has lost.
      const isNew = own === null && (await rowOf(deps, looking.dataset, further))?.flipId == null
      if (isNew || own?.tag === tag) continue
      await leaveBehind(deps, looking.dataset, further, lackingText(tag, own))
    } catch (error) {
      await leaveBehind(deps, looking.dataset, further, messageOf(error))
    }
  }
}

/** Copies what it lacks of what readers are on and may go back to, and sets its pointer. */
export async function bringUp(deps: FollowDeps, further: FurtherStore, looking: Looking): Promise<void> {
  const { dataset } = looking
  const from = await deps.store(dataset)
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const lacks = await takeOver(deps, further, looking)
    const needed = lacks?.as === 'active' ? lacks.ref : await rollbackTarget(deps, from, further, dataset)
    const ref = needed ?? lacks?.ref
    if (ref === undefined) return
    try {
      await copyToFurtherStore(deps, { ...looking, from, to: further.store, ref })
    } catch (error) {
      looking.signal.throwIfAborted()
      if (needed !== null) throw error
      // An older version says nothing of the one that is published.
      const why = `${ref.tag}, which readers are pinned to, cannot be copied there: ${messageOf(error)}`
      return leaveBehind(deps, dataset, further, why)
    }
  }
  throw cameFirst(dataset, further)
}

/** What a further store has not. Without the active version nothing is set there; without the one that an operator pinned readers to, all but the pin. */
interface Lacking {
  as: 'active' | 'pinned'
  ref: VersionRef
}

function lackingText(tag: string, own: VersionRef | null): string {
  const theirs = own === null ? 'its readers find nothing' : `its readers stay on ${own.tag}`
  return `it has not ${tag}, which readers of the first store are on; ${theirs} until a refresh copies it there`
}

/** What a rollback would go to and the store lacks: it shall not have to be copied while people wait. */
async function rollbackTarget(
  deps: FollowDeps,
  from: Store,
  { store }: FurtherStore,
  dataset: string,
): Promise<VersionRef | null> {
  const previous = (await from.pointer.read())?.pointer.previous ?? null
  if (previous === null || !(await stands(from, previous))) return null
  return (await copies(deps.pool, { dataset, url: store.url })).has(previous.tag) ? null : previous
}

/** Sets the further store's pointer to what the first store's says, and returns what it lacks for that; null: it says all that the first store's says. */
async function takeOver(deps: FollowDeps, further: FurtherStore, looking: Looking): Promise<Lacking | null> {
  const { dataset } = looking
  const { name, store } = further
  const first = await deps.store(dataset)
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    // Each time: what came first may have been a restart.
    await forgetLost(deps, further, looking)
    // Its own pointer before the first store's: what is written over it is then newer than all that was written into it before.
    const own = await store.pointer.read()
    const read = await first.pointer.read()
    const pointer = read?.pointer
    if (pointer?.active == null) return null
    await requireOurs(deps, further, pointer, own)
    const known = await copies(deps.pool, { dataset, url: store.url })
    const next = followedPointer(
      { ...pointer, active: pointer.active },
      own?.pointer ?? null,
      (tag) => known.get(tag) ?? null,
    )
    if (next.outcome === 'behind') return { as: 'active', ref: next.lacks }
    if (next.outcome === 'refused') throw new SnapflipError(next.code, next.message, next.details)
    if (!(await set(store, own, next.pointer))) continue
    // Changed since, and changed back in between to what was read here: then nobody else had anything to write.
    if ((await first.pointer.read())?.token !== read?.token) continue
    const pin = next.pointer.pin === null ? pinInForce(pointer, Date.now()) : null
    // Where its readers are is true without the pin, too.
    const lacks = pin === null ? null : lackingText(pin.version.tag, next.pointer.active)
    const { flipId } = pointer
    const { tag } = pointer.active
    await recordFollowed(deps.pool, { dataset, name, url: store.url, flipId, tag, actor: null, lacks })
    return pin && { as: 'pinned', ref: pin.version }
  }
  throw cameFirst(dataset, further)
}

/**
 * The same where the registry does not answer (after a break-glass rollback): which copies there are is told by their manifests, which were put when
 * they had been read back. False: the version is not there.
 */
export async function takeOverUnregistered(first: Store, { store }: FurtherStore, dataset: string): Promise<boolean> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const own = await store.pointer.read()
    const pointer = (await first.pointer.read())?.pointer
    // A store that nothing was published to yet may be another's.
    if (pointer?.active == null || own === null) return false
    const { active, previous, candidate, pin } = pointer
    const known = new Map<string, VersionRef>()
    for (const ref of [active, previous, candidate?.version, pin?.version]) {
      const bytes = ref == null ? null : await store.data.readManifest(ref.tag)
      if (ref == null || bytes === null) continue
      if (decodeManifest(bytes, { dataset, tag: ref.tag }).digest !== ref.digest) continue
      known.set(ref.tag, { ...ref, manifest: manifestHash(bytes) })
    }
    const next = followedPointer({ ...pointer, active }, own.pointer, (tag) => known.get(tag) ?? null)
    if (next.outcome === 'behind') return false
    if (next.outcome === 'refused') throw new SnapflipError(next.code, next.message, next.details)
    if (await store.pointer.swap(own.token, next.pointer)) return true
  }
  throw cameFirst(dataset, { store })
}

/** False: another write came first, or a restart. */
async function set(store: Store, own: PointerRead | null, next: Pointer): Promise<boolean> {
  const isBound = await store.pointer.isBound()
  if (own !== null && isBound && isDeepStrictEqual(own.pointer, next)) return true
  try {
    if (own !== null && !isBound) return await store.pointer.rebind(own.token, next)
    return await store.pointer.swap(own?.token ?? null, next)
  } catch (error) {
    if (isSnapflipError(error, 'STORE_REBOUND')) return false
    throw error
  }
}

async function rowOf(deps: FollowDeps, dataset: string, { store }: FurtherStore) {
  return (await furtherStores(deps.pool, dataset)).find((one) => one.store === store.url)
}

/**
 * A Redis that restarted, failed over or came back empty, and a store whose pointer is older than what was set there, may have lost any of what it
 * acknowledged: every copy is read whole before it counts again.
 */
async function forgetLost(deps: FollowDeps, further: FurtherStore, looking: Looking): Promise<void> {
  const { dataset } = looking
  const { store } = further
  const { url } = store
  const row = await rowOf(deps, dataset, further)
  const own = (await store.pointer.read())?.pointer ?? null
  const isOlder = row?.flipId != null && !(own?.flips.some(({ flipId }) => flipId === row.flipId) ?? false)
  if (!isOlder && (await store.pointer.isBound())) return
  for (const copy of (await copies(deps.pool, { dataset, url })).values()) {
    const damage = await damageOf(store, looking, copy)
    if (damage === null) continue
    await forgetCopies(deps.pool, { dataset, url, tags: [copy.tag], why: damage })
    deps.log.warn({ dataset, step: 'follow', store: url, version: copy.tag, damage }, 'a copy is not whole any more')
  }
}

/** A place that another registry publishes to is left alone: its readers would be on other data. */
async function requireOurs(
  deps: FollowDeps,
  { name, store }: FurtherStore,
  { dataset, flips }: Pointer,
  own: PointerRead | null,
): Promise<void> {
  const flipId = own?.pointer.flipId ?? null
  // A registry that was restored has not seen all that the first store has.
  const isKnown = flips.some((made) => made.flipId === flipId)
  if (flipId === null || isKnown || (await flipOf(deps.pool, flipId)) !== null) return
  if (own?.pointer.breakGlass.some((entry) => entry.flipId === flipId)) return
  throw new SnapflipError(
    'CONFLICT',
    `Expected ${store.url} to hold what this registry published, found version ${own?.pointer.active?.tag ?? 'none'} of flip ${flipId}, which it does not know. ` +
      `Another registry publishes ${dataset} there: correct \`stores.${name}\`.`,
    { dataset, store: store.url, flipId },
  )
}

export async function leaveBehind(
  deps: FollowDeps,
  dataset: string,
  { name, store }: FurtherStore,
  why: string,
): Promise<void> {
  const { since } = await recordDegraded(deps.pool, { dataset, name, url: store.url, why })
  await deps.alert({
    kind: 'STORE_DEGRADED',
    dataset,
    version: null,
    incident: `${store.url} since ${since.toISOString()}`,
    summary: `${name} (${store.url}) stays behind the first store of ${dataset}: ${why}`,
    evidence: { store: store.url, name, why },
  })
  deps.log.warn({ dataset, step: 'follow', store: store.url }, why)
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

function named({ dataset }: Looking, { store }: FurtherStore) {
  return { dataset, step: 'follow', store: store.url }
}

function cameFirst(dataset: string, { store }: Pick<FurtherStore, 'store'>): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `Pointers of ${dataset} were changed by others while ${store.url} took over what the first store says, expected a turn. The next refresh does it.`,
    { dataset, store: store.url },
  )
}
