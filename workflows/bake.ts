import { CancellationScope } from '@temporalio/workflow'
import type { BakeRequest } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { long } from './activities.ts'
import { takeBack } from './take-back.ts'

/** `LEFT`: another flip or rollback cut it short. `UNHEALTHY`: of a rollback, which is for a person to leave. */
export interface BakeEnd {
  status: 'BAKED' | 'LEFT' | 'UNHEALTHY' | 'ROLLED_BACK' | 'FAILED'
  summary: string
}

/**
 * The watch over a version after it became active. It goes on without the refresh or rollback that started it. Beyond its limits, readers are taken
 * back by the `rollback` workflow; but a rollback's own target is only told of: the pointer is not moved again by itself.
 */
export async function bake(request: BakeRequest): Promise<BakeEnd> {
  const { dataset, tag, flipId } = request
  try {
    const { outcome, summary } = await long.watchBake(request)
    return { status: ({ baked: 'BAKED', left: 'LEFT', unhealthy: 'UNHEALTHY' } as const)[outcome], summary }
  } catch (error) {
    if (failureCode(error) !== 'BAKE_FAILED') throw error
    const summary = failureMessage(error)
    return await CancellationScope.nonCancellable(() =>
      takeBack({ dataset, tag, flipId, summary, of: `flip ${flipId}` }),
    )
  }
}
