import type { NativeConnection } from '@temporalio/worker'

/** Whether a workflow of this id, or this run of it, is at work. One that Temporal does not know (any more) is not. */
export async function isRunning(
  connection: NativeConnection,
  namespace: string,
  { workflowId, runId }: { workflowId: string; runId?: string },
): Promise<boolean> {
  try {
    const { workflowExecutionInfo } = await connection.workflowService.describeWorkflowExecution({
      namespace,
      execution: { workflowId, ...(runId === undefined ? {} : { runId }) },
    })
    return workflowExecutionInfo?.closeTime == null
  } catch (error) {
    if (isNotFound(error)) return false
    throw error
  }
}

/** As gRPC says it. */
export function isNotFound(error: unknown): boolean {
  return error instanceof Error && (error as { code?: unknown }).code === GRPC_NOT_FOUND
}

const GRPC_NOT_FOUND = 5
