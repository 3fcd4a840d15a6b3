import type { ApprovalRow } from '../registry/approvals.ts'
import { formatTime } from './table.ts'

/** What somebody has to do, and until when. */
export function waitingText({ dataset, tag, requestedBy, why, expiresAt }: ApprovalRow): string {
  return `${tag} waits for somebody other than ${requestedBy}, until ${formatTime(expiresAt)}: ${why}; \`snapflip approve ${dataset} ${tag} --reason …\` or \`reject\``
}

/** What became of a request. */
export function approvalText(approval: ApprovalRow): string {
  const { decision, decidedBy, decidedAt, reason, usedBy } = approval
  if (decision === null) return waitingText(approval)
  const by = decidedBy === null ? '' : ` by ${decidedBy}`
  const used = decision !== 'approved' ? '' : usedBy === null ? ', not used' : `, used by flip ${usedBy}`
  return `${decision}${by} at ${formatTime(decidedAt)}${reason === null ? '' : `: ${reason}`}${used}`
}
