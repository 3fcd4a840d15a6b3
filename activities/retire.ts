import { prune } from '../src/changelog/prune.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { neededWatermarks } from '../src/registry/needed-watermarks.ts'
import { retirable } from '../src/registry/retirable.ts'
import { retire as retireVersion } from '../src/registry/retire.ts'
import { versions } from '../src/registry/versions.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Looking } from './damage.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { firstPlace, mark, type Swept, sweepFirst, sweepFurther } from './sweep.ts'
import { definitionOf } from './under-policy.ts'
import { removeFinishedWork } from './work-folder.ts'

export interface Retired extends Swept {
  retired: string[]
}

/** Keeps the last N versions; retires the others, then deletes of the retired what no lease and no other version needs. */
export const retire =
  (deps: Deps) =>
  ({ dataset }: { dataset: string }): Promise<Retired> =>
    asActivity(async (tell, signal) => {
      const store = await deps.store(dataset)
      const retired = await retireOlder(deps, store, { dataset, tell, signal })
      const swept = await sweepFirst(deps, store, { dataset, tell, signal })
      await sweepFurther(deps, { dataset, tell, signal })
      await pruneChangelog(deps, signal)
      return { retired, ...swept }
    })

/**
 * What is left of refreshes that failed: their versions are retired at once, their generations deleted. Older ones that nothing needs too: what
 * failed may have lacked the room.
 */
export const discard =
  (deps: Deps) =>
  ({ dataset }: { dataset: string }): Promise<Retired> =>
    asActivity(async (tell, signal) => {
      await removeFinishedWork(deps)
      const store = await deps.store(dataset)
      const retired: string[] = []
      for (const row of await versions(deps.pool, dataset, { states: ['sealed'] })) {
        if (await retireOne(deps, store, { dataset, tell, signal }, row.tag, 'its refresh failed'))
          retired.push(row.tag)
      }
      retired.push(...(await retireOlder(deps, store, { dataset, tell, signal })))
      const swept = await sweepFirst(deps, store, { dataset, tell, signal })
      await sweepFurther(deps, { dataset, tell, signal })
      return { retired, ...swept }
    })

/** Of good versions and of others, as many stay as are kept. */
async function retireOlder(deps: Deps, store: Store, looking: Looking): Promise<string[]> {
  const { dataset } = looking
  const { keep, retireAfterMs } = await definitionOf(deps, dataset)
  const retired: string[] = []
  for (const tag of await retirable(deps.pool, { dataset, keep, olderThanMs: retireAfterMs }))
    if (await retireOne(deps, store, looking, tag, `beyond the ${keep} that are kept`)) retired.push(tag)
  return retired
}

/** Marks it in the registry, then in the pointer: from there on no flip, rollback or new lease takes it. False: it is needed. */
async function retireOne(deps: Deps, store: Store, looking: Looking, tag: string, why: string): Promise<boolean> {
  const { dataset } = looking
  try {
    await retireVersion(deps.pool, { dataset, tag, why })
    return await mark(deps, firstPlace(deps, store, looking), dataset, tag)
  } catch (error) {
    if (!isSnapflipError(error, 'CONFLICT')) throw error
    deps.log.info({ dataset, version: tag, step: 'retire' }, `not retired: ${error.message}`)
    return false
  }
}

/** Changes that every retained version already holds. Fails for nobody: the next retirement prunes again. */
async function pruneChangelog(deps: Deps, signal: AbortSignal): Promise<void> {
  const client = await deps.builder()
  try {
    const pruned = await prune(client, await neededWatermarks(deps.pool), signal)
    deps.log.debug({ step: 'retire', ...pruned }, 'changelog pruned')
  } finally {
    await client.end()
  }
}
