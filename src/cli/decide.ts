import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../core/errors.ts'
import { approvals } from '../registry/approvals.ts'
import { decideApproval } from '../registry/decide-approval.ts'
import { decodeManifest, manifestHash } from '../snapshot/manifest.ts'
import type { Session } from './session.ts'
import type { Answer, CommonOptions } from './verb.ts'

export interface DecideOptions extends CommonOptions {
  reason: string
}

/** The registry has the answer by then, and the workflow looks by itself: a person is not kept waiting for long. */
const WAKE_TIMEOUT_MS = 5_000

/** Answers what waits for an approval, and wakes its refresh. */
export async function decide(
  session: Session,
  decision: 'approved' | 'rejected',
  { reason }: DecideOptions,
  dataset: string,
  tag: string,
): Promise<Answer> {
  await session.dataset(dataset)
  const registry = await session.registry()
  const seen = await sealedIn(session, dataset, tag)
  const { actor } = await decideApproval(registry, { dataset, tag, decision, reason, ...seen })
  const [approval] = await approvals(registry, { dataset, tag, limit: 1 })
  const woken = await wake(session, dataset, tag)
  const then = {
    woken:
      decision === 'approved' ? `\`snapflip refresh ${dataset} --follow\` follows it.` : 'Readers stay where they are.',
    later: 'Its refresh finds it when it looks next.',
    gone: `Its refresh is gone, so nobody takes this up: \`snapflip refresh ${dataset}\` builds and asks anew.`,
  }
  return {
    json: { dataset, tag, decision, approval, woken: woken === 'woken' },
    text: `${tag} of ${dataset} is ${decision} by ${actor}. ${then[woken]}`,
  }
}

/** What is decided on: the manifest as it is in the store, whatever the registry says of it. */
async function sealedIn(
  session: Session,
  dataset: string,
  tag: string,
): Promise<{ digest: string; manifestSha256: string }> {
  const store = await session.store(dataset)
  const bytes = await store.data.readManifest(tag)
  if (bytes === null) {
    throw new SnapflipError(
      'APPROVAL_REFUSED',
      `Expected ${tag} of ${dataset} in ${store.url}, found none. \`snapflip status ${dataset}\` says what waits for an approval.`,
      { dataset, tag, store: store.url },
    )
  }
  return { digest: decodeManifest(bytes, { dataset, tag }).digest, manifestSha256: manifestHash(bytes) }
}

/** `gone`: it was terminated, and nobody has closed it. */
async function wake(session: Session, dataset: string, tag: string): Promise<'woken' | 'later' | 'gone'> {
  const { WorkflowNotFoundError } = await import('@temporalio/client')
  try {
    const client = await session.temporal()
    const handle = client.workflow.getHandle(WORKFLOW_ID.refresh(dataset))
    await client.withDeadline(Date.now() + WAKE_TIMEOUT_MS, () => handle.executeUpdate('decided', { args: [tag] }))
    return 'woken'
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'gone'
    session.note(`Its refresh could not be told: ${error instanceof Error ? error.message : error}`)
    return 'later'
  }
}
