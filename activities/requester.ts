import { WORKFLOW_ID } from '../schemas/refresh.ts'
import { authorizeAs } from '../src/registry/authorize.ts'
import { isKnownRun } from '../src/registry/is-known-run.ts'
import type { RequestedVia } from '../src/registry/open-refresh-of.ts'
import { useTicket, useTrigger } from '../src/registry/ticket.ts'
import { scheduleId } from '../src/temporal/schedules.ts'
import type { Starter } from '../src/temporal/starter.ts'
import { type Deps, datasetOf } from './deps.ts'

export interface Requester {
  /** A PostgreSQL login; or `temporal:<identity>`, which anybody can call themselves. */
  actor: string
  /** How that is known: a ticket proves a login, an identity of Temporal's nothing, and another workflow of ours is nobody. */
  via: RequestedVia
}

/**
 * Who asks for this workflow, and whether they may. The ticket of its request proves a login; one that is forged or used counts as none, and
 * then it is whoever the Temporal server took the start from, or the start of what it is a child of. What a workflow of ours starts by itself (a
 * schedule's run, the rollback of a refresh that failed) nobody has to allow; a schedule's run that a person triggered is that person's.
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
    deps.log.warn({ dataset, action, ticket, starter }, 'a ticket that is forged or used counts as none')
  if (login === null && (await isOurs(deps, { dataset, action, starter }))) {
    const run = isContinuous(dataset, starter) ? runId : (starter.parents[0]?.runId ?? runId)
    const triggered = action === 'refresh' ? await useTrigger(deps.pool, { dataset, runId: run }) : null
    return triggered === null
      ? { actor: `temporal:${starter.parents[0]?.workflowId}`, via: 'workflow' }
      : { actor: triggered, via: 'login' }
  }
  const actor = login ?? `temporal:${starter.identity}`
  await authorizeAs(deps.pool, { dataset, action, actor, ...(reason === undefined ? {} : { reason }) })
  return { actor, via: login === null ? 'temporal' : 'login' }
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
  const declared = datasetOf(deps.config, dataset).schedule
  if (parents.length === 0 || (action !== 'refresh' && action !== 'rollback')) return false
  if (action === 'rollback') return isKnownRun(deps.pool, { dataset, runs: parents })
  if (declared?.continuous !== undefined) return isContinuous(dataset, starter)
  return declared !== undefined && schedule === scheduleId(dataset)
}

/** One run of it starts many refreshes: what a person triggered is one of them alone. */
function isContinuous(dataset: string, { parents }: Starter): boolean {
  return parents.at(-1)?.workflowId === WORKFLOW_ID.continuous(dataset)
}
