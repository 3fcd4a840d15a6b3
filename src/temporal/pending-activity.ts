import type { WorkflowHandle } from '@temporalio/client'

/** Of the activity that is at work: what it told with its last heartbeat, and why its last attempt failed. */
export async function pendingActivity(
  handle: WorkflowHandle,
): Promise<{ told: string | null; trouble: string | null }> {
  const [activity] = (await handle.describe()).raw.pendingActivities ?? []
  const failure = activity?.lastFailure?.message
  const trouble = failure == null ? null : `attempt ${(activity?.attempt ?? 2) - 1}: ${failure}; trying again`
  const [payload] = activity?.heartbeatDetails?.payloads ?? []
  if (payload?.data == null) return { told: null, trouble }
  const { progress } = JSON.parse(Buffer.from(payload.data).toString('utf8')) as { progress?: unknown }
  return { told: typeof progress === 'string' && progress !== 'started' ? progress : null, trouble }
}
