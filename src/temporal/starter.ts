import type { NativeConnection } from '@temporalio/worker'
import { isNotFound } from './is-running.ts'

export interface Execution {
  workflowId: string
  runId: string
}

/** Where a workflow comes from, as the server recorded it. */
export interface Starter {
  /** Whoever started the outermost of `parents`, or the workflow itself: an identity that anybody can take. */
  identity: string
  /** The workflows that started it, nearest first; none: it was started from outside. */
  parents: Execution[]
  /** The schedule that started the outermost; null: none did. Temporal marks so what a person triggers of it too. */
  schedule: string | null
}

/** More than our own have. */
const PARENTS_MAX = 5

/** Reads the first event of a workflow, and of each that it is a child of. What Temporal does not keep any more was started by nobody knows whom. */
export async function starterOf(
  connection: NativeConnection,
  namespace: string,
  execution: Execution,
): Promise<Starter> {
  const parents: Execution[] = []
  for (;;) {
    const started = await firstEvent(connection, namespace, parents.at(-1) ?? execution)
    const parent = started?.parentWorkflowExecution
    if (!parent?.workflowId || !parent.runId || parents.length === PARENTS_MAX) {
      const mark = started?.searchAttributes?.indexedFields?.TemporalScheduledById?.data
      const schedule = mark ? (JSON.parse(Buffer.from(mark).toString()) as unknown) : null
      return {
        identity: started?.identity || 'unknown',
        parents,
        schedule: typeof schedule === 'string' ? schedule : null,
      }
    }
    parents.push({ workflowId: parent.workflowId, runId: parent.runId })
  }
}

async function firstEvent(connection: NativeConnection, namespace: string, execution: Execution) {
  try {
    const { history } = await connection.workflowService.getWorkflowExecutionHistory({
      namespace,
      execution,
      maximumPageSize: 1,
    })
    return history?.events?.[0]?.workflowExecutionStartedEventAttributes ?? null
  } catch (error) {
    if (isNotFound(error)) return null
    throw error
  }
}
