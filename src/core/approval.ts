import type { DatasetDefinition } from '../../schemas/config.ts'
import type { Verdict } from '../../schemas/refresh.ts'

/** Looks at an unanswered request, however long it waits: each costs the workflow's history about ten events of 51,200. */
const LOOKS_MAX = 300
/** Of a person who has answered while Temporal could not be told: how soon the workflow finds it by itself, at the soonest. */
const LOOK_MIN_MS = 1_000

/** Whether readers get a version with this verdict only by a person's yes. A rejected one they never get. */
export function wantsApproval(approval: DatasetDefinition['approval'], verdict: Verdict): boolean {
  if (approval === undefined || verdict === 'reject') return false
  const wants = { never: false, onHold: verdict === 'hold', always: true } as const
  return wants[approval.when]
}

/** A request that nobody has answered. */
export interface Waiting {
  requestedAt: Date
  expiresAt: Date
  /** When somebody is told that it waits; null: nobody is, or they were. */
  escalatesAt: Date | null
}

/** How long the workflow waits before it looks again, unless it is woken: until something is due, and a share of the whole at most. */
export function nextLookMs({ requestedAt, expiresAt, escalatesAt }: Waiting, now: Date): number {
  const due = Math.min(expiresAt.getTime(), escalatesAt?.getTime() ?? Number.POSITIVE_INFINITY)
  const share = (expiresAt.getTime() - requestedAt.getTime()) / LOOKS_MAX
  return Math.max(LOOK_MIN_MS, Math.min(due - now.getTime(), share))
}
