import type { Hold } from '../schemas/pointer.ts'
import { activeHold } from '../src/registry/active-hold.ts'
import { requireStore } from '../src/registry/apply-store.ts'
import { hold as recordHold } from '../src/registry/hold.ts'
import { quarantinedByRollbacks } from '../src/registry/quarantine.ts'
import { resume } from '../src/registry/resume.ts'
import { asRegistered } from './as-registered.ts'
import { type ChangeDeps, changeRepaired, settleAll } from './change-repaired.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

export interface HoldRequest {
  dataset: string
  by: string
  reason: string
  /** When it began, ISO: by it a second attempt is known for the same hold. Now, unless given. */
  at?: string
}

/** For a workflow that must leave a dataset to a person. One that a person holds already is left to them. */
export const hold =
  (deps: Deps) =>
  (request: HoldRequest): Promise<void> =>
    asActivity(async () => void (await holdDataset(deps, { ...request, yields: true })))

/**
 * Pauses a dataset: no refresh opens, and none that is open flips. The registry comes first, with the history entry; then the store's
 * pointer, which refuses flips even where the registry cannot be asked. Failing in between leaves it on hold in the registry: again does the
 * rest. One that was lifted before it came to the store is lifted there too, and another that took its place stands. Returns the hold that this
 * one replaces, too.
 */
export async function holdDataset(
  deps: ChangeDeps,
  request: HoldRequest & { yields?: boolean },
): Promise<{ hold: Hold; replaced: Hold | null }> {
  const store = await deps.store(request.dataset)
  await requireStore(deps.pool, { dataset: request.dataset, url: store.url })
  const held = await recordHold(deps.pool, request)
  await asRegistered<Hold | null>(held.hold, {
    read: () => activeHold(deps.pool, request.dataset),
    write: (hold, before) =>
      changeRepaired(
        deps,
        store,
        request,
        hold === null ? { kind: 'resume', holds: before === null ? [] : [before] } : { kind: 'hold', hold },
      ),
  })
  return held
}

/** Versions that rollbacks left since the last hold was lifted, one that is in the store alone included: a person has to say what became of them. */
export async function quarantinedWithHold(
  deps: ChangeDeps,
  { dataset, by }: { dataset: string; by: string },
): Promise<string[]> {
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  await settleAll(deps, store, { dataset, by })
  const hold = await activeHold(deps.pool, dataset)
  return hold === null ? [] : quarantinedByRollbacks(deps.pool, dataset)
}

/**
 * Lifts the hold, in the registry and then in the store. A rollback that is in the pointer alone is settled first: its hold would come after
 * its own lifting. `lifted` is false when there was none in either.
 */
export async function resumeDataset(
  deps: ChangeDeps,
  request: HoldRequest & { kept?: readonly string[] },
): Promise<{ lifted: boolean }> {
  const { dataset } = request
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  await settleAll(deps, store, request)
  const pointer = (await store.pointer.read())?.pointer ?? null
  const inStore = pointer?.hold ?? null
  const { lifted, hold } = await resume(deps.pool, { ...request, heldInStore: inStore !== null })
  const holds = [inStore, hold].filter((held) => held !== null)
  // Without a pointer there is none to lift, and none is made for it.
  if (pointer !== null) await changeRepaired(deps, store, request, { kind: 'resume', holds })
  return { lifted }
}
