import { WORKFLOW_ID } from '../schemas/refresh.ts'
import { authorizeAs } from '../src/registry/authorize.ts'
import { isKnownRun } from '../src/registry/is-known-run.ts'
import type { RequestedVia } from '../src/registry/open-refresh-of.ts'
import { type TicketFor, triggering, useTicket } from '../src/registry/ticket.ts'
import { scheduleId } from '../src/temporal/schedules.ts'
import type { Starter } from '../src/temporal/starter.ts'
import type { Deps } from './deps.ts'
import { definitionOf } from './under-policy.ts'

/** Who started the workflow, and what that is worth. */
export interface Requester {
  /** A PostgreSQL login; or `temporal:<identity>`, which anybody can call themselves. */
  actor: string
  /** How that is known: a ticket proves a login, an identity of Temporal's nothing, and another workflow of ours is nobody. */
  via: RequestedVia
}

/**
 * Who asks for this workflow, and whether they may. The ticket of its request proves a login; one that is forged or used counts as none, and
 * then it is whoever the Temporal server took the start from, or the start of what it is a child of. What a workflow of ours starts by itself (a
 * schedule's run, the rollback of a refresh that failed) nobody has to allow; one that a person triggered comes with that person's ticket.
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
  const starter = await deps.starter(workflowId, runId)
  const asked = askedFor(starter, { dataset, action, request, runId })
  const login = ticket === undefined ? null : await useTicket(deps.pool, { ticket, ...asked })
  if (login === null && ticket !== undefined)
    deps.log.warn({ dataset, action, ticket, starter }, 'a ticket that is forged or used counts as none')
  if (ticket === undefined && (await isOurs(deps, { dataset, action, starter }))) {
    const by = starter.parents.at(action === 'refresh' ? -1 : 0)
    return { actor: `temporal:${by?.workflowId}`, via: 'workflow' }
  }
  const actor = login ?? `temporal:${starter.identity}`
  await authorizeAs(deps.pool, { dataset, action, actor, ...(reason === undefined ? {} : { reason }) })
  return { actor, via: login === null ? 'temporal' : 'login' }
}

/**
 * What the ticket has to be for. That of a refresh which a workflow of ours started is a trigger's, and counts for that workflow's run: however long
 * that waits, and however often it tries.
 */
function askedFor({ parents: [by] }: Starter, own: TicketFor & { runId: string }): TicketFor & { runId: string } {
  return by === undefined || own.action !== 'refresh' ? own : { ...triggering(own.dataset), runId: by.runId }
}

/**
 * Whether a workflow of ours asks by itself, and not a person by starting one by hand. A refresh is asked for by its schedule or its continuous
 * mode, where that is declared; a rollback by what follows a refresh or flip that was allowed.
 */
async function isOurs(
  deps: Deps,
  { dataset, action, starter }: { dataset: string; action: string; starter: Starter },
): Promise<boolean> {
  const { parents, schedule } = starter
  if (parents.length === 0 || (action !== 'refresh' && action !== 'rollback')) return false
  if (action === 'rollback') return isKnownRun(deps.pool, { dataset, runs: parents })
  const declared = (await definitionOf(deps, dataset)).schedule
  if (declared?.continuous !== undefined) return isContinuous(dataset, starter)
  return declared !== undefined && schedule === scheduleId(dataset)
}

function isContinuous(dataset: string, { parents }: Starter): boolean {
  return parents.at(-1)?.workflowId === WORKFLOW_ID.continuous(dataset)
}
