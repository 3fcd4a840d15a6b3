import { authorizeAs } from '../src/registry/authorize.ts'
import { useTicket } from '../src/registry/ticket.ts'
import type { Deps } from './deps.ts'

export interface Requester {
  /** A PostgreSQL login; or `temporal:<identity>`, which anybody can call themselves. */
  actor: string
  /** Whether `actor` is proven, or there is no person: a schedule's run, a compensation. */
  verified: boolean
}

/**
 * Who asks for this workflow, and whether they may. The ticket of its request proves a login; one that is forged or used counts as none, and
 * then it is whoever the Temporal server took the start from. What another workflow of ours starts (a schedule's run, the rollback of a
 * refresh that failed) nobody has to allow.
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
    action: 'refresh' | 'rollback'
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
  if (login === null && starter.isWorkflow) return { actor: starter.actor, verified: true }
  const actor = login ?? starter.actor
  await authorizeAs(deps.pool, { dataset, action, actor, ...(reason === undefined ? {} : { reason }) })
  return { actor, verified: login !== null }
}
