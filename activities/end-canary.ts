import type { PointerChange } from '../src/core/pointer.ts'
import { requireStore } from '../src/registry/apply-store.ts'
import { type CanaryRow, canaryOf, openCanary } from '../src/registry/canaries.ts'
import { endCanary as recordEnd } from '../src/registry/end-canary.ts'
import { openFlips } from '../src/registry/flips.ts'
import { type OpenRefresh, openRefreshOf } from '../src/registry/open-refresh-of.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { followAll } from './follow.ts'
import { type Repairing, repair } from './reconcile.ts'
import { settleOpenFlips } from './settle-flips.ts'
import { throughRestarts } from './through-restarts.ts'

/** Takes the canary of a refresh back that ends without its flip: readers first, also where the registry does not answer. */
export const endCanary =
  (deps: Deps) =>
  ({ dataset, canaryId, why }: { dataset: string; canaryId: string; why: string }): Promise<void> =>
    asActivity(async (tell, signal) => {
      const store = await deps.store(dataset)
      const looking = { dataset, tell, signal }
      // Begun, it has raised the pointer's epoch to its own: no attempt that is paused shows it again.
      await throughRestarts(
        () => changePointer(store.pointer, { kind: 'endCanary', canaryId }, { dataset }),
        () => repair(deps, store, looking),
      )
      const canary = await canaryOf(deps.pool, canaryId)
      if (canary !== null) await takeBack(deps, store, looking, canary, why)
    })

/**
 * Ends the canary that a refresh has left behind, which died; and one that is in the pointer alone.
 *
 * @param hasDied whether nobody goes on with the refresh, which the registry has as open still.
 */
export async function endLeftCanary(
  deps: Deps,
  store: Store,
  looking: Repairing,
  hasDied: (refresh: OpenRefresh) => Promise<boolean>,
): Promise<void> {
  const { dataset } = looking
  // The pointer first: the registry has each canary before any pointer has.
  const candidate = (await store.pointer.read())?.pointer.candidate ?? null
  const open = await openCanary(deps.pool, dataset)
  if (open !== null) {
    const refresh = await openRefreshOf(deps.pool, dataset)
    if (refresh?.refreshId === open.refreshId && !(await hasDied(refresh))) return
    return takeBack(deps, store, looking, open, `its refresh ${open.refreshId} ended without it`)
  }
  // Ended in the registry, and shown again by a store that came back older.
  if (candidate === null) return
  await changePointer(store.pointer, { kind: 'endCanary', canaryId: candidate.canaryId }, { dataset })
}

/** The same where no refresh comes that would: on hold, say, or out of its windows. */
export async function endDeadCanary(deps: Deps, dataset: string, signal: AbortSignal): Promise<void> {
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  const tell = (progress: string) => deps.log.debug({ dataset, step: 'canary' }, progress)
  // That run: another one of its id may wait for its window.
  const hasDied = async ({ workflowId, runId }: OpenRefresh) => !(await deps.isRunning(workflowId, runId))
  await endLeftCanary(deps, store, { dataset, tell, signal, isUnasked: true }, hasDied)
}

/** No attempt at it that is paused shows it again: the fence first, as of a flip that is given up. */
async function takeBack(deps: Deps, store: Store, looking: Repairing, canary: CanaryRow, why: string): Promise<void> {
  const { dataset } = looking
  const { canaryId, tag, share } = canary
  const change = (asked: PointerChange) =>
    throughRestarts(
      () => changePointer(store.pointer, asked, { dataset }),
      () => repair(deps, store, looking),
    )
  if (share !== null) {
    await change({ kind: 'fence', epoch: { registry: canary.epoch, breakGlass: 0 } })
    await change({ kind: 'endCanary', canaryId })
    await followAll(deps, looking)
  }
  for (const { epoch, to } of await openFlips(deps.pool, dataset)) {
    if (to === tag) await change({ kind: 'fence', epoch: { registry: epoch, breakGlass: 0 } })
  }
  await settleOpenFlips(deps, store, dataset)
  await recordEnd(deps.pool, { canaryId, why })
  deps.log.info({ dataset, step: 'canary', version: tag, canaryId }, `canary ended: ${why}`)
}
