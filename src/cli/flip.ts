import type { Command } from 'commander'
import { type FlipToOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { DETACHED, follow } from './follow.ts'
import { reason } from './reason.ts'
import { requireTag } from './require-tag.ts'
import type { Session } from './session.ts'
import { startWorkflow } from './start-workflow.ts'
import { ticketed } from './ticketed.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  reason: string
}

export function flip(program: Command): void {
  verb(program, {
    usage: 'flip <dataset> <tag>',
    summary: 'take readers forward to a version that is there already; it passes the same last look as any flip',
    examples: [['snapflip flip shop v20260518-02 --reason "it was the reader"', 'after a rollback and a release']],
    more: 'For a version that a rollback left and that was good after all, and is released: `snapflip release` first. Nothing is built. It is baked like any flip. Refused are one that is older than the active one (`snapflip rollback` goes back), gone, quarantined, that did not pass its gates or lacks the approval it needs, and a dataset on hold.',
    ends: [
      'UNKNOWN_VERSION',
      'VERSION_RETIRED',
      'VERSION_QUARANTINED',
      'CONFLICT',
      'PREFLIP_REFUSED',
      'ON_HOLD',
      'FORBIDDEN',
    ],
  })
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .action(act<Options, [string, string]>(run))
}

async function run(session: Session, { reason }: Options, dataset: string, to: string): Promise<Answer> {
  await session.dataset(dataset)
  await requireTag(session, dataset, to)
  const workflowId = WORKFLOW_ID.flipTo(dataset)
  const request = await ticketed(session, 'flip', { dataset, to, reason })
  const { client, handle } = await startWorkflow(session, 'flipTo', workflowId, request, {
    code: 'CONFLICT',
    message: `Expected no open flip of ${dataset}, found workflow ${workflowId} at work. \`snapflip status ${dataset}\` shows where it ends.`,
  })
  const outcome = await follow<FlipToOutcome>(session, client, handle)
  if (outcome === DETACHED) {
    session.note(`Detached; ${workflowId} goes on: \`snapflip status ${dataset}\` shows where readers are.`)
    return { json: { dataset, workflowId, detached: true }, text: '', detached: true }
  }
  return { json: outcome, text: outcome.summary }
}
