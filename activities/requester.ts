import { authorizeAs } from '../src/registry/authorize.ts'
import type { RequestedVia } from '../src/registry/open-refresh-of.ts'
import { useTicket, useTrigger } from '../src/registry/ticket.ts'
import type { Deps } from './deps.ts'

export interface Requester {
  /** A PostgreSQL login; or `temporal:<identity>`, which anybody can call themselves. */
  actor: string
  /** How that is known: a ticket proves a login, an identity of Temporal's nothing, and another workflow of ours is nobody. */
  via: RequestedVia
}

/**
 * Who asks for this workflow, and whether they may. The ticket of its request proves a login; one that is forged or used counts as none, and
 * then it is whoever the Temporal server took the start from. What another workflow of ours starts (a schedule's run, the rollback of a
 * refresh that failed) nobody has to allow; a schedule's run that a person triggered is that person's.
 *
 * @throws SnapflipError FORBIDDEN, after a history entry `action.refused`.
 */
export async function requesterOf(
  deps: Deps,
  {
    action,
    request: { ticket, ...request },
    workflowId,
    runId,
  }: {
    action: 'refresh' | 'rollback' | 'flip' | 'drill'
    request: { dataset: string; reason?: string | undefined; ticket?: string | undefined }
    workflowId: string
    runId: string
  },
): Promise<Requester> {
  const { dataset, reason } = request
  const login = ticket === undefined ? null : await useTicket(deps.pool, { ticket, dataset, action, request, runId })
  const starter = await deps.starter(workflowId, runId)
  if (login === null && ticket !== undefined)
    deps.log.warn({ dataset, action, ticket, starter: starter.actor }, 'a ticket that is forged or used counts as none')
  if (login === null && starter.isWorkflow) {
    const triggered = action === 'refresh' ? await useTrigger(deps.pool, { dataset, runId }) : null
    return triggered === null ? { actor: starter.actor, via: 'workflow' } : { actor: triggered, via: 'login' }
  }
  const actor = login ?? starter.actor
  await authorizeAs(deps.pool, { dataset, action, actor, ...(reason === undefined ? {} : { reason }) })
  return { actor, via: login === null ? 'temporal' : 'login' }
}
