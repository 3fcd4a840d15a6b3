import { CancellationScope, isCancellation, workflowInfo } from '@temporalio/workflow'
import { type BakeRequest, WORKFLOW_ID } from '../schemas/refresh.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { baking, patient } from './activities.ts'
import { failureOf, takeBack } from './take-back.ts'

/**
 * `LEFT`: another flip or rollback cut it short. `UNHEALTHY`: of a rollback, which is for a person to leave. `UNWATCHED`: the watch could not go on,
 * which says nothing of the version.
 */
export interface BakeEnd {
  status: 'BAKED' | 'LEFT' | 'UNHEALTHY' | 'ROLLED_BACK' | 'FAILED' | 'UNWATCHED'
  summary: string
}

/**
 * The watch over a version after it became active. It goes on without the refresh or rollback that started it. Beyond its limits, readers are taken
 * back by the `rollback` workflow; but a rollback's own target is only told of: the pointer is not moved again by itself.
 */
export async function bake(request: BakeRequest): Promise<BakeEnd> {
  const { dataset, tag, flipId } = request
  try {
    const { outcome, summary } = await baking().watchBake(request)
    return { status: ({ baked: 'BAKED', left: 'LEFT', unhealthy: 'UNHEALTHY' } as const)[outcome], summary }
  } catch (error) {
    if (failureCode(error) !== 'BAKE_FAILED') return await unwatched(error)
    const summary = failureMessage(error)
    return await CancellationScope.nonCancellable(() =>
      takeBack({ dataset, tag, flipId, summary, of: `flip ${flipId}` }),
    )
  }

  /** Readers stay on it, and those are told who can look. One that was started by hand beside the watch says nothing of it. */
  async function unwatched(error: unknown): Promise<BakeEnd> {
    if (workflowInfo().workflowId !== WORKFLOW_ID.bake(dataset, flipId)) throw error
    const why = isCancellation(error) ? 'it was cancelled' : failureMessage(error)
    await CancellationScope.nonCancellable(() => failureOf(() => patient.bakeUnwatched({ dataset, tag, flipId, why })))
    if (isCancellation(error)) throw error
    return { status: 'UNWATCHED', summary: `${tag} is not watched any more: ${why}` }
  }
}
