import type { WorkflowHandle } from '@temporalio/client'
import type { Command } from 'commander'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { isSnapflipError } from '../core/errors.ts'
import { openRefreshOf } from '../registry/open-refresh-of.ts'
import { recordEvent } from '../registry/record.ts'
import { DETACHED, follow, temporalOf } from './follow.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { temporalFailure } from './temporal.ts'
import { authorizedWhereKnown } from './ticketed.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  wait: boolean
  reason?: string
}

export function cancel(program: Command): void {
  verb(program, {
    usage: 'cancel <dataset>',
    summary: 'end the running refresh; what it staged is removed, readers stay where they are',
    examples: [
      ['snapflip cancel shop --reason "the import is wrong"', 'waits until it has cleaned up'],
      ['snapflip cancel shop --no-wait', 'asks, and returns'],
    ],
    more: 'Who asked, and why, is in the history. A request for an approval is withdrawn. Past the flip nothing is taken back: that is `rollback`, and a bake goes on.',
    ends: ['FORBIDDEN'],
  })
    .option('--reason <text>', 'kept in the history', reason)
    .option('--no-wait', 'do not wait for the end')
    .action(act<Options, [string]>(run))
}

async function run(session: Session, options: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  const client = await session.temporal()
  const handle = client.workflow.getHandle(WORKFLOW_ID.refresh(dataset))
  if (!(await isRunning(session, handle))) {
    return { json: { dataset, cancelled: false, outcome: null }, text: `No refresh of ${dataset} is running.` }
  }
  // Who may start one may end it.
  const { reason } = options
  await authorizedWhereKnown(session, { dataset, action: 'refresh', reason: reason ?? 'cancel' }, async () => {
    const pool = await session.registry()
    const refreshId = (await openRefreshOf(pool, dataset))?.refreshId ?? null
    await recordEvent(pool, { dataset, actor: null, kind: 'refresh.cancelled', detail: { refreshId, reason } })
  })
  await handle.cancel()
  if (!options.wait) return { json: { dataset, cancelled: null, outcome: null }, text: `${dataset}: asked to end.` }
  try {
    const outcome = await follow<{ status: string; summary: string }>(session, client, handle)
    if (outcome === DETACHED) {
      return { json: { dataset, cancelled: null, outcome: null }, text: `${dataset}: asked to end; not waited for it.` }
    }
    // It was past the point where it can be taken back, or ended by itself.
    return {
      json: { dataset, cancelled: false, outcome },
      text: `${dataset}: not cancelled, it ended before: ${outcome.status}: ${outcome.summary}`,
    }
  } catch (error) {
    if (!isSnapflipError(error, 'CANCELLED')) throw error
    return { json: { dataset, cancelled: true, outcome: null }, text: `${dataset}: ${error.message}` }
  }
}

/** The server takes a request to cancel a workflow that has ended without a word. */
async function isRunning(session: Session, handle: WorkflowHandle): Promise<boolean> {
  const { WorkflowNotFoundError } = await import('@temporalio/client')
  try {
    return (await handle.describe()).status.name === 'RUNNING'
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false
    throw temporalFailure(error, await temporalOf(session))
  }
}
