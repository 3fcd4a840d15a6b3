import { Client, WorkflowExecutionAlreadyStartedError } from '@temporalio/client'
import type { NativeConnection } from '@temporalio/worker'
import { type BakeRequest, WORKFLOW_ID } from '../../schemas/refresh.ts'

/** A server that hangs holds nobody up: it is tried again. */
const START_TIMEOUT_MS = 5_000

/** Starts the watch over what a flip made active, once: one that has ended is not begun again. False: it was started before. */
export async function startBake(
  connection: NativeConnection,
  { namespace, taskQueue }: { namespace: string; taskQueue: string },
  request: BakeRequest,
): Promise<boolean> {
  const { dataset, flipId } = request
  const client = new Client({ connection, namespace })
  try {
    await client.withDeadline(Date.now() + START_TIMEOUT_MS, () =>
      client.workflow.start('bake', {
        taskQueue,
        workflowId: WORKFLOW_ID.bake(dataset, flipId),
        args: [request],
        workflowIdReusePolicy: 'REJECT_DUPLICATE',
        workflowIdConflictPolicy: 'FAIL',
      }),
    )
    return true
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
    return false
  }
}
