import type { WorkflowHandle } from '@temporalio/client'
import type { ContinuousRequest } from '../../schemas/continuous.ts'
import type { RefreshRequest } from '../../schemas/refresh.ts'

/**
 * Tickets of the runs of continuous mode that persons triggered and that have not begun, oldest first. By what the server has recorded, since a
 * query is answered by workers alone, and where there is none nobody may be taken for not waiting.
 */
export async function waitingTickets(handle: WorkflowHandle): Promise<string[]> {
  const { events } = await handle.fetchHistory()
  const given = new Set<string>()
  const begun = new Set<string | undefined>()
  for (const event of events ?? []) {
    const started = argumentOf<ContinuousRequest>(event.workflowExecutionStartedEventAttributes)
    for (const ticket of started?.tickets ?? []) given.add(ticket)
    const signal = event.workflowExecutionSignaledEventAttributes
    const triggered = signal?.signalName === 'trigger' ? argumentOf<string>(signal) : undefined
    if (triggered !== undefined) given.add(triggered)
    begun.add(argumentOf<RefreshRequest>(event.startChildWorkflowExecutionInitiatedEventAttributes)?.ticket)
  }
  return [...given].filter((ticket) => !begun.has(ticket))
}

interface Called {
  input?: { payloads?: Array<{ data?: Uint8Array | null }> | null } | null
}

/** The first argument, as Temporal's own converter writes it; undefined: none was given. */
function argumentOf<T>(called: Called | null | undefined): T | undefined {
  const data = called?.input?.payloads?.[0]?.data
  return data?.length ? (JSON.parse(Buffer.from(data).toString('utf8')) as T) : undefined
}
