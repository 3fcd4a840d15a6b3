import type { VersionRef } from '../schemas/pointer.ts'
import { nextLookMs } from '../src/core/approval.ts'
import {
  type ApprovalDecision,
  type ApprovalRow,
  approvalOf,
  askApproval,
  endApproval,
} from '../src/registry/approvals.ts'
import { setVersionState } from '../src/registry/set-version-state.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { type Deps, datasetOf } from './deps.ts'
import { asActivity } from './failure.ts'
import { underPolicy } from './under-policy.ts'

export interface AskedApproval {
  refreshId: string
  dataset: string
  version: VersionRef
  /** What a person has to look at. */
  why: string
}

export interface ApprovalSeen {
  /** Null: it waits. */
  decision: ApprovalDecision | null
  summary: string
  /** How long to wait before the next look, unless somebody is told to look at once. */
  nextLookMs: number
}

/**
 * Asks for a person's yes to the version, or looks what became of it: the registry's row is all that counts, whoever woke the workflow. An
 * unanswered request is told to those it escalates to, and rejected when its time is over.
 */
export const approval =
  (own: Deps) =>
  (asked: AskedApproval): Promise<ApprovalSeen> =>
    asActivity(async () => {
      const { refreshId, dataset, version, why } = asked
      const deps = await underPolicy(own, asked)
      const policy = datasetOf(deps.config, dataset).approval
      if (policy === undefined)
        throw new Error(`refresh ${refreshId} asks for an approval that its policy does not declare`)
      await askApproval(deps.pool, {
        ...{ refreshId, tag: version.tag, manifestSha256: version.manifest, why },
        validForMs: policy.expiresAfterMs,
      })
      const row = await settled(deps, refreshId)
      await moveVersion(deps, row)
      const { escalate } = policy
      const escalatesAt = escalate === undefined ? null : new Date(row.requestedAt.getTime() + escalate.afterMs)
      const now = new Date()
      const isDue = escalatesAt !== null && escalatesAt <= now
      if (row.decision === null && isDue) await tellWaiting(deps, row, escalate?.sinks)
      return {
        decision: row.decision,
        summary: summaryOf(row),
        nextLookMs: nextLookMs({ ...row, escalatesAt: isDue ? null : escalatesAt }, now),
      }
    })

/** As it is once what is over has been ended. */
async function settled({ pool }: Deps, refreshId: string): Promise<ApprovalRow> {
  const read = async () => {
    const row = await approvalOf(pool, refreshId)
    if (row === null) throw new Error(`the approval that refresh ${refreshId} asked for is gone`)
    return row
  }
  const row = await read()
  if (row.decision !== null || row.expiresAt > new Date()) return row
  await endApproval(pool, refreshId, 'expired')
  return read()
}

/** What a gate held goes on as if that had passed; what a person rejects, or nobody answers, is rejected. */
async function moveVersion({ pool }: Deps, row: ApprovalRow): Promise<void> {
  const { dataset, tag, decision } = row
  if (decision === null) return
  const { state } = await versionRow(pool, dataset, tag)
  const to = decision === 'approved' ? 'sealed' : 'rejected'
  if (state === 'held' || (to === 'rejected' && (state === 'sealed' || state === 'candidate')))
    await setVersionState(pool, { dataset, tag, to, why: summaryOf(row) })
}

export function summaryOf({
  tag,
  decision,
  decidedBy,
  reason,
  requestedBy,
  requestedAt,
  expiresAt,
  why,
}: ApprovalRow): string {
  const said = `by ${decidedBy}: ${reason}`
  if (decision === 'approved') return `${tag} is approved ${said}`
  if (decision === 'rejected') return `${tag} is rejected ${said}`
  if (decision !== null) return `nobody approved ${tag}, asked for at ${requestedAt.toISOString()}: ${decision}`
  return `${tag} waits for somebody other than ${requestedBy} to approve it, until ${expiresAt.toISOString()}: ${why}`
}

async function tellWaiting(deps: Deps, row: ApprovalRow, sinks: readonly string[] | undefined): Promise<void> {
  const { approvalId, dataset, tag, refreshId, why, requestedBy, requestedAt, expiresAt, digest, manifestSha256 } = row
  await deps.alert({
    kind: 'APPROVAL_WAITING',
    dataset,
    version: tag,
    incident: approvalId,
    summary: summaryOf(row),
    evidence: { refreshId, why, requestedBy, requestedAt, expiresAt, digest, manifest: manifestSha256 },
    ...(sinks === undefined ? {} : { sinks }),
  })
}
