import type { Client, WorkflowHandle } from '@temporalio/client'
import type { ErrorCode } from '../core/errors.ts'
import { SnapflipError } from '../core/errors.ts'
import { progressOf, temporalOf } from './follow.ts'
import type { Session } from './session.ts'
import { temporalFailure } from './temporal.ts'

/**
 * Starts a workflow under its dataset's fixed id: one at a time, as often as one likes one after the other.
 *
 * @throws SnapflipError `running` when one is open, with the `step` that it is at; TEMPORAL_UNREACHABLE.
 */
export async function startWorkflow(
  session: Session,
  type: 'refresh' | 'rollback' | 'flipTo' | 'drill' | 'bake',
  workflowId: string,
  request: { dataset: string },
  running: { code: ErrorCode; message: string },
): Promise<{ client: Client; handle: WorkflowHandle; runId: string }> {
  const client = await session.temporal()
  const { WorkflowExecutionAlreadyStartedError } = await import('@temporalio/client')
  const { taskQueue } = (await session.config()).temporal
  try {
    const handle = await client.withDeadline(Date.now() + session.temporalAnswerMs, () =>
      client.workflow.start(type, {
        taskQueue,
        workflowId,
        args: [request],
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        workflowIdConflictPolicy: 'FAIL',
        staticSummary: `${type} of ${request.dataset} by ${session.actor}`,
      }),
    )
    return { client, handle, runId: handle.firstExecutionRunId }
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) {
      // Null: nobody is there to tell.
      const progress = await progressOf(client, client.workflow.getHandle(workflowId)).catch(() => null)
      const step = progress?.step ?? null
      const doing = progress === null ? ' No worker says what it is at.' : ` It is at ${step}: ${progress.summary}.`
      throw new SnapflipError(
        running.code,
        `${running.message}${doing}`,
        { dataset: request.dataset, workflowId, step },
        error,
      )
    }
    throw temporalFailure(error, await temporalOf(session))
  }
}
