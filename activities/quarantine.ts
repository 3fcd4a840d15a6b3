import { requireStore } from '../src/registry/apply-store.ts'
import { quarantine, quarantineOf } from '../src/registry/quarantine.ts'
import { release } from '../src/registry/release.ts'
import type { Store } from '../src/stores/ports.ts'
import { asRegistered } from './as-registered.ts'
import { type ChangeDeps, changeRepaired, settleAll } from './change-repaired.ts'

export interface QuarantineRequest {
  dataset: string
  tag: string
  by: string
  reason: string
}

/**
 * Forbids every flip and rollback to a version: in the registry, with the history entry, then in the store's pointer, which refuses them even where the
 * registry cannot be asked. Failing in between leaves it forbidden in the registry: again does the rest.
 */
export async function quarantineVersion(deps: ChangeDeps, request: QuarantineRequest): Promise<void> {
  const { dataset } = request
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  // Whether it is active, or about to be, the registry knows once nothing is undecided.
  await settleAll(deps, store, request)
  await quarantine(deps.pool, request)
  await inStoreToo(deps, store, request, true)
}

/** Lifts the quarantine, in the registry and then in the store. `released` is false when there was none in either. */
export async function releaseVersion(deps: ChangeDeps, request: QuarantineRequest): Promise<{ released: boolean }> {
  const { dataset, tag } = request
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  // A rollback that is in the pointer alone would quarantine the version again when it is settled.
  await settleAll(deps, store, request)
  const { released } = await release(deps.pool, request)
  const inStore = (await store.pointer.read())?.pointer.quarantined.includes(tag) === true
  if (released || inStore) await inStoreToo(deps, store, request, false)
  return { released: released || inStore }
}

async function inStoreToo(
  deps: ChangeDeps,
  store: Store,
  request: QuarantineRequest,
  isQuarantined: boolean,
): Promise<void> {
  const { dataset, tag } = request
  await asRegistered(isQuarantined, {
    read: async () => (await quarantineOf(deps.pool, dataset, tag)) !== null,
    write: (wanted) => changeRepaired(deps, store, request, { kind: wanted ? 'quarantine' : 'release', tag }),
  })
}
