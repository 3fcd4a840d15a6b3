import { approvalOf } from '../src/registry/approvals.ts'
import { openRefreshOf } from '../src/registry/open-refresh-of.ts'
import { recordEvent } from '../src/registry/record.ts'
import { summaryOf } from './approval.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

/** Reports a run that a schedule made for nothing, and says what is in its way: `reason`, or the refresh that runs. */
export const skipped =
  (deps: Deps) =>
  ({ dataset, workflowId, reason: known }: { dataset: string; workflowId: string; reason?: string }): Promise<string> =>
    asActivity(async () => {
      const open = await openRefreshOf(deps.pool, dataset)
      const approval = open === null ? null : await approvalOf(deps.pool, open.refreshId)
      const waits = approval !== null && approval.decision === null
      const running = open === null ? ', and waits to begin or to be tried again' : ''
      const reason =
        known ?? `a refresh of ${dataset} was running already${waits ? `: ${summaryOf(approval)}` : running}`
      const detail = { reason, workflowId, refreshId: open?.refreshId ?? null }
      await recordEvent(deps.pool, { dataset, actor: `temporal:${workflowId}`, kind: 'refresh.skipped', detail })
      return reason
    })
