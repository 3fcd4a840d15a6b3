import { requireStore } from '../src/registry/apply-store.ts'
import { activePin, liftPin, putPin } from '../src/registry/pins.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import { showVersion } from '../src/stores/show-version.ts'
import { type ChangeDeps, changeRepaired, settleAll, throughRepair } from './change-repaired.ts'
import type { Deps } from './deps.ts'
import { followAll } from './follow.ts'
import { readManifest } from './parent.ts'

interface PinRequest {
  dataset: string
  tag: string
  /** ISO; readers go by their own clocks. */
  until: string
  by: string
  reason: string
}

/**
 * Keeps readers on a version, whatever is flipped beneath: in the registry, with the history entry and against retirement, then in the store's
 * pointer. Failing in between leaves it in the registry: again does the rest, and so does a repair.
 */
export async function pinDataset(deps: ChangeDeps, request: PinRequest): Promise<{ active: string | null }> {
  const { dataset } = request
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  await settleAll(deps, store, request)
  const pin = await putPin(deps.pool, request)
  const { pointer } = await throughRepair(deps, store, { ...request, step: 'pin' }, () =>
    showVersion(store, dataset, async () => {
      await readManifest(store, dataset, pin.version)
      return { kind: 'pin', pin }
    }),
  )
  await followAll(deps, { dataset, tell: () => undefined, signal: new AbortController().signal })
  return { active: pointer.active?.tag ?? null }
}

/** Lifts the pin, in the registry and then in the store; null: there was none in either. */
export async function unpinDataset(
  deps: ChangeDeps,
  request: { dataset: string; by: string; reason: string },
): Promise<{ lifted: string | null }> {
  const { dataset } = request
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  const stored = (await store.pointer.read())?.pointer.pin ?? null
  const lifted = await liftPin(deps.pool, { ...request, inStore: stored?.version.tag ?? null })
  if (stored !== null) {
    const { version, until } = stored
    await changeRepaired(deps, store, request, { kind: 'unpin', tag: version.tag, until })
  }
  return { lifted }
}

/** A pin that expired binds no reader any more, but it is a name in the pointer that keeps its version from being retired. */
export async function liftExpiredPin(
  deps: Pick<Deps, 'pool'>,
  store: Store,
  dataset: string,
  now = Date.now(),
): Promise<void> {
  const stored = (await store.pointer.read())?.pointer.pin ?? null
  if (stored === null || Date.parse(stored.until) > now) return
  const only = { tag: stored.version.tag, until: stored.until }
  const known = await activePin(deps.pool, dataset)
  // Its clock says when: one of a worker may be ahead.
  if (known?.version.tag === only.tag && Date.parse(known.until) === Date.parse(only.until)) return
  if (known === null) await liftPin(deps.pool, { dataset, by: null, reason: 'expired', only })
  await changePointer(store.pointer, { kind: 'unpin', ...only }, { dataset })
}
