import type { NativeConnection } from '@temporalio/worker'
import { buildsQueue } from '../core/task-queues.ts'

/** Of Temporal's API. */
const TASKS_OF = { workflows: 1, activities: 2 } as const

/** Tasks that wait for a worker, about, as the server counts them. */
export async function backlogOf(
  connection: NativeConnection,
  namespace: string,
  taskQueue: string,
): Promise<Record<string, number>> {
  const waiting = async (name: string, taskQueueType: number) => {
    const { stats } = await connection.workflowService.describeTaskQueue({
      namespace,
      taskQueue: { name },
      taskQueueType,
      reportStats: true,
    })
    return Number(stats?.approximateBacklogCount ?? 0)
  }
  const [workflows, activities, builds] = await Promise.all([
    waiting(taskQueue, TASKS_OF.workflows),
    waiting(taskQueue, TASKS_OF.activities),
    waiting(buildsQueue(taskQueue), TASKS_OF.activities),
  ])
  return { workflows, activities, builds }
}
