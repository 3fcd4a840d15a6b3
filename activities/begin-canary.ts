import { randomBytes } from 'node:crypto'
import type { VersionRef } from '../schemas/pointer.ts'
import type { CanaryPolicy } from '../schemas/watch.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { intendCanary } from '../src/registry/intend-canary.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { requireWhole } from './flip.ts'
import { followAll } from './follow.ts'
import type { FlipFrom } from './parent.ts'
import { repair } from './reconcile.ts'
import { throughRestarts } from './through-restarts.ts'

export interface CanaryRequest {
  refreshId: string
  dataset: string
  from: FlipFrom
  version: VersionRef
  canaryId: string
  policy: CanaryPolicy
}

/**
 * Lets a share of the readers answer from the version: intent, then the pointer, through restarts, as a flip. Again with the same id: finds it made. Returns what the
 * flip afterwards expects to find: the pointer as it is with the canary.
 */
export const beginCanary =
  (deps: Deps) =>
  ({ refreshId, dataset, from, version, canaryId, policy }: CanaryRequest): Promise<{ from: FlipFrom }> =>
    asActivity(async (tell, signal) => {
      const { tag, manifest: manifestSha256 } = version
      const store = await deps.store(dataset)
      const share = policy.probe.only ? null : policy.share
      // Drawn anew for each canary: it is not the same readers each time.
      const salt = randomBytes(8).toString('hex')
      const intent = { canaryId, dataset, refreshId, tag, manifestSha256, share, salt, forMs: policy.forMs }
      const begin = async () => {
        const canary = await intendCanary(deps.pool, intent)
        if (canary.outcome !== null) {
          throw new SnapflipError(
            'SUPERSEDED',
            `Expected canary ${canaryId} of ${tag} of ${dataset} to be waited for, found it ${canary.outcome}. Refresh again.`,
            { dataset, canaryId, tag },
          )
        }
        if (canary.share === null) return null
        const epoch = { registry: canary.epoch, breakGlass: 0 }
        const since = canary.intendedAt.toISOString()
        await changePointer(
          store.pointer,
          { kind: 'canary', canaryId, expected: from, version, share: canary.share, salt: canary.salt, since, epoch },
          { dataset },
        )
        return epoch
      }
      const looking = { dataset, tell, signal }
      const epoch = await throughRestarts(begin, async () => {
        await requireWhole(store, looking, version)
        await repair(deps, store, { ...looking, madeAfter: canaryId })
      })
      if (epoch === null) return { from }
      await followAll(deps, looking)
      deps.log.info({ dataset, step: 'canary', version: tag, share, epoch, canaryId }, 'canary begun')
      return { from: { tag: from.tag, epoch } }
    })
