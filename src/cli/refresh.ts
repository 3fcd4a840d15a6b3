import type { Command } from 'commander'
import { type RefreshOutcome, type RefreshStatus, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { type ErrorCode, SnapflipError } from '../core/errors.ts'
import { DETACHED, follow } from './follow.ts'
import { gateTable } from './gate-table.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { startWorkflow } from './start-workflow.ts'
import { ticketed } from './ticketed.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  full?: boolean
  outsideWindow?: boolean
  reason?: string
  wait: boolean
  follow?: boolean
}

/** Which ends of a refresh have an exit code of their own. */
const CODES: Record<RefreshStatus, ErrorCode | null> = {
  FLIPPED: null,
  NOTHING_NEW: null,
  SKIPPED: null,
  KEPT: null,
  HELD: 'HELD',
  REJECTED: 'REJECTED',
  ROLLED_BACK: 'ROLLED_BACK',
  CANCELLED: 'CANCELLED',
  /** After the flip, and it could not be taken back; other failures are thrown by the workflow. */
  FAILED: 'VERIFY_FAILED',
}

export function refresh(program: Command): void {
  verb(program, {
    usage: 'refresh <dataset>',
    summary: 'build the next version, prove it, flip to it; follows the progress until the end',
    examples: [
      ['snapflip refresh shop', 'from the changes alone, where they will do'],
      ['snapflip refresh shop --full --reason "new tax rules"', 'from the source'],
      ['snapflip refresh shop --outside-window --reason "wrong prices"', 'does not wait for its window'],
      ['snapflip refresh shop --no-wait', 'prints the workflow id and returns'],
      ['snapflip refresh shop --follow', 'follows the one that is running, or says how the last ended'],
    ],
    more: 'One refresh of a dataset runs at a time. Refused are a dataset on hold, one whose definition was not applied, and whoever the policy does not let. A version that a gate refuses, or nobody approves, reaches no reader.',
    ends: ['NOT_APPLIED', 'REFRESH_RUNNING', 'ON_HOLD', 'HELD', 'REJECTED', 'ROLLED_BACK', 'CANCELLED', 'FORBIDDEN'],
  })
    .option('--full', 'build from the source even where the changes alone would do')
    .option('--outside-window', "also while the dataset's windows are closed; wants --reason")
    .option('--reason <text>', 'kept in the history', reason)
    .option('--no-wait', 'start it and return')
    .option('--follow', 'follow the refresh that is running instead of starting one')
    .action(act<Options, [string]>(run))
}

async function run(session: Session, options: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  if (options.outsideWindow && options.reason === undefined) {
    throw new SnapflipError(
      'USAGE',
      'Expected --reason with --outside-window, found none: the history keeps why. Add one.',
      { dataset },
    )
  }
  const workflowId = WORKFLOW_ID.refresh(dataset)
  const { client, handle } = options.follow
    ? await attached(session, workflowId)
    : await startWorkflow(
        session,
        'refresh',
        workflowId,
        await ticketed(session, 'refresh', {
          dataset,
          ...(options.reason === undefined ? {} : { reason: options.reason }),
          ...(options.full === undefined ? {} : { full: options.full }),
          ...(options.outsideWindow === undefined ? {} : { outsideWindow: options.outsideWindow }),
        }),
        {
          code: 'REFRESH_RUNNING',
          message:
            `Expected no open refresh of ${dataset}, found workflow ${workflowId} at work. ` +
            `\`snapflip refresh ${dataset} --follow\` follows it, \`snapflip cancel ${dataset}\` ends it.`,
        },
      )
  const follows = `\`snapflip refresh ${dataset} --follow\` follows it, \`snapflip cancel ${dataset}\` ends it.`
  if (!options.wait) {
    session.note(`Started; ${follows}`)
    return { json: { dataset, workflowId }, text: workflowId }
  }
  const outcome = await follow<RefreshOutcome>(session, client, handle)
  if (outcome === DETACHED) {
    session.note(`Detached; ${workflowId} goes on: ${follows}`)
    return { json: { dataset, workflowId, detached: true }, text: '', detached: true }
  }
  return answerOf(dataset, outcome)
}

/** The handle of whatever runs under the id; its result tells when nothing does. */
async function attached(session: Session, workflowId: string) {
  const client = await session.temporal()
  return { client, handle: client.workflow.getHandle(workflowId) }
}

function answerOf(dataset: string, outcome: RefreshOutcome): Answer {
  const code = CODES[outcome.status]
  const message = `${dataset}: ${outcome.status}${outcome.tag === null ? '' : ` ${outcome.tag}`}: ${outcome.summary}`
  const lines = [message]
  const telling = outcome.gates.filter((gate) => gate.verdict !== 'pass')
  if (telling.length > 0) lines.push('', gateTable(telling))
  if (code !== null) lines.push('', `Readers are on ${outcome.active ?? 'no version'}.${adviceOn(dataset, outcome)}`)
  return {
    json: code === null ? outcome : { ...outcome, code, message },
    text: lines.join('\n'),
    ...(code === null ? {} : { code }),
  }
}

function adviceOn(dataset: string, { status, tag }: RefreshOutcome): string {
  if ((status === 'HELD' || status === 'REJECTED') && tag !== null)
    return ` \`snapflip show ${dataset} ${tag}\` has the evidence (with --keys the keys, too); correct the source, then refresh again.`
  if (status === 'ROLLED_BACK') return ` The dataset is on hold: \`snapflip history ${dataset}\` says why.`
  return ''
}
