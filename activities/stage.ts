import type { VersionRef } from '../schemas/pointer.ts'
import { copyToFurtherStore } from './copy-version.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { type FollowRequest, furtherStoreOf } from './follow.ts'

/** Copies the sealed version to a further store, before readers anywhere are on it: the flips can then follow one another at once. */
export const stage =
  (deps: Deps) =>
  ({ dataset, store, version }: FollowRequest & { version: VersionRef }): Promise<void> =>
    asActivity(async (tell, signal) => {
      const { store: to } = await furtherStoreOf(deps, dataset, store)
      const from = await deps.store(dataset)
      await copyToFurtherStore(deps, { dataset, from, to, ref: version, tell, signal })
    })
