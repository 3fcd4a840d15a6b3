import { Context } from '@temporalio/activity'
import { approvalOf } from '../src/registry/approvals.ts'
import { openRefreshOf } from '../src/registry/open-refresh-of.ts'
import { recordEvent } from '../src/registry/record.ts'
import { triggering, useTicket } from '../src/registry/ticket.ts'
import { summaryOf } from './approval.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

/** A run that did not refresh. */
export interface SkippedRun {
  dataset: string
  /** The workflow whose run it is. */
  workflowId: string
  /** What is in its way; without it: the refresh that runs. */
  reason?: string
  /** Of whoever triggered it. */
  ticket?: string | undefined
}

/** Reports a run that was made for nothing, and says what is in its way. Its ticket is used up by that: whoever sees it has no use for it. */
export const skipped =
  (deps: Deps) =>
  ({ dataset, workflowId, reason: known, ticket }: SkippedRun): Promise<string> =>
    asActivity(async () => {
      const runId = Context.current().info.workflowExecution?.runId ?? workflowId
      const login = ticket ? await useTicket(deps.pool, { ticket, ...triggering(dataset), runId }) : null
      const open = await openRefreshOf(deps.pool, dataset)
      const approval = open === null ? null : await approvalOf(deps.pool, open.refreshId)
      const waits = approval !== null && approval.decision === null
      const running = open === null ? ', and waits to begin or to be tried again' : ''
      const reason =
        known ?? `a refresh of ${dataset} was running already${waits ? `: ${summaryOf(approval)}` : running}`
      const detail = { reason, workflowId, refreshId: open?.refreshId ?? null }
      const actor = login ?? `temporal:${workflowId}`
      await recordEvent(deps.pool, { dataset, actor, kind: 'refresh.skipped', detail })
      return reason
    })
