import { CancellationScope, type ChildWorkflowHandle, startChild } from '@temporalio/workflow'
import { type BakeRequest, WORKFLOW_ID } from '../schemas/refresh.ts'
import type { bake } from './bake.ts'

/**
 * Starts the watch over what a flip made active, also for a workflow that was cancelled by then or fails: readers are on it, and nobody else looks.
 * It goes on by itself, whatever becomes of that workflow.
 */
export function startBake(request: BakeRequest): Promise<ChildWorkflowHandle<typeof bake>> {
  return CancellationScope.nonCancellable(() =>
    startChild<typeof bake>('bake', {
      workflowId: WORKFLOW_ID.bake(request.dataset, request.flipId),
      parentClosePolicy: 'ABANDON',
      args: [request],
    }),
  )
}
