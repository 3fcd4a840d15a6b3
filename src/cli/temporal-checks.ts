import type { Client as TemporalClient } from '@temporalio/client'
import { buildsQueue, watchesQueue } from '../core/task-queues.ts'
import { SEARCH_ATTRIBUTES } from '../temporal/search-attributes.ts'
import { bad, type Check, failed, good } from './check.ts'
import { temporalOf, workersPolling } from './follow.ts'
import type { Session } from './session.ts'
import { temporalFailure } from './temporal.ts'

/** Temporal itself, and whether workers poll the queues that refreshes use. */
export async function lookAtTemporal(session: Session): Promise<Check[]> {
  const { temporal, datasets } = await session.config()
  let at = { address: temporal.address, namespace: temporal.namespace }
  try {
    at = await temporalOf(session)
    const client = await session.temporal()
    const { namespace } = client.options
    await client.workflowService.describeNamespace({ namespace })
    const checks = [good('temporal', `${at.address}, namespace ${namespace}`)]
    // An operator's call that a namespace's own key may not make: then nothing is known of them, which is no fault.
    const known = await client.connection.operatorService.listSearchAttributes({ namespace }).catch(() => null)
    const missing = SEARCH_ATTRIBUTES.filter((name) => known?.customAttributes?.[name] === undefined)
    checks.push(
      known === null
        ? good('search attributes', 'not allowed to ask; the worker says when it runs without')
        : missing.length === 0
          ? good('search attributes', SEARCH_ATTRIBUTES.join(', '))
          : bad(
              'search attributes',
              'TEMPORAL_UNREACHABLE',
              `missing: ${missing.join(', ')}`,
              `Start a worker, which registers them, or: temporal operator search-attribute create ${missing.map((name) => `--name ${name} --type Keyword`).join(' ')}`,
            ),
    )
    const { taskQueue } = temporal
    checks.push(await lookAtQueue(client, 'worker', taskQueue, 'workflow'))
    checks.push(await lookAtQueue(client, 'builds', buildsQueue(taskQueue), 'activity'))
    if (Object.values(datasets).some(({ schedule }) => schedule?.continuous !== undefined))
      checks.push(await lookAtQueue(client, 'watches', watchesQueue(taskQueue), 'activity'))
    return checks
  } catch (error) {
    return [failed('temporal', temporalFailure(error, at))]
  }
}

/** `snapflip worker` polls both queues; who routes or limits them may have left one out, and refreshes then wait without an error. */
async function lookAtQueue(
  client: TemporalClient,
  check: string,
  taskQueue: string,
  type: 'workflow' | 'activity',
): Promise<Check> {
  const workers = await workersPolling(client, taskQueue, type)
  return workers > 0
    ? good(check, `${workers} poll${workers === 1 ? 's' : ''} task queue ${taskQueue}`)
    : bad(check, 'TEMPORAL_UNREACHABLE', `none polls task queue ${taskQueue}`, 'Start one with `snapflip worker`.')
}
