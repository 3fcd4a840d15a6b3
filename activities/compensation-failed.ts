import { Context } from '@temporalio/activity'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

/** A compensation that did not work is itself reported: what it left behind stays until the next one. */
export const compensationFailed =
  (deps: Deps) =>
  ({ dataset, summary }: { dataset: string; summary: string }): Promise<void> =>
    asActivity(async () => {
      const { activityId, workflowExecution } = Context.current().info
      const incident = `${workflowExecution?.runId}/${activityId}`
      const evidence = { workflowId: workflowExecution?.workflowId }
      await deps.alert({ kind: 'COMPENSATION_FAILED', dataset, version: null, incident, summary, evidence })
    })
