import { flipOf } from '../src/registry/flips.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { settleOpenFlips } from './settle-flips.ts'

/** Reads how a flip ended before anything is cleaned up: one whose reply was lost may have been made. */
export const settle =
  (deps: Deps) =>
  ({ dataset, flipId }: { dataset: string; flipId: string }): Promise<{ flipped: boolean }> =>
    asActivity(async () => {
      const asked = await flipOf(deps.pool, flipId)
      if (asked === null) return { flipped: false }
      await settleOpenFlips(deps, await deps.store(dataset), dataset)
      return { flipped: (await flipOf(deps.pool, flipId))?.outcome === 'confirmed' }
    })
