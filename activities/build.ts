import type { VersionRef } from '../schemas/pointer.ts'
import { buildVersion } from './build-version.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import type { FlipFrom } from './parent.ts'
import { underPolicy } from './under-policy.ts'

export interface BuildRequest {
  refreshId: string
  dataset: string
  from: FlipFrom
  /** Why the changes alone cannot be used, when an earlier attempt found out. */
  rebuildReason: string | null
}

export type BuildResult =
  /** `refused`: it would be what was refused before, and that is how it ends again. */
  | { changed: false; summary: string; refused?: 'HELD' | 'REJECTED' }
  | { changed: true; summary: string; version: VersionRef }

/** Builds and seals the next version, or finds that there is nothing new. */
export const build =
  (deps: Deps) =>
  (request: BuildRequest): Promise<BuildResult> =>
    asActivity(async (tell, signal) => buildVersion(await underPolicy(deps, request), request, { tell, signal }))
