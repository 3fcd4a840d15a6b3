import { Client, WorkflowExecutionAlreadyStartedError } from '@temporalio/client'
import type { NativeConnection } from '@temporalio/worker'
import { type BakeRequest, WORKFLOW_ID } from '../../schemas/refresh.ts'

/** Starts the watch over what a flip made active, once: one that has ended is not begun again. */
export async function startBake(
  connection: NativeConnection,
  { namespace, taskQueue }: { namespace: string; taskQueue: string },
  request: BakeRequest,
): Promise<void> {
  const { dataset, flipId } = request
  try {
    await new Client({ connection, namespace }).workflow.start('bake', {
      taskQueue,
      workflowId: WORKFLOW_ID.bake(dataset, flipId),
      args: [request],
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      workflowIdConflictPolicy: 'FAIL',
    })
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
  }
}
