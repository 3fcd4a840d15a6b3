import type { Command } from 'commander'
import { type RollbackOutcome, type RollbackRequest, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { DETACHED, follow } from './follow.ts'
import { reason } from './reason.ts'
import { requireTag } from './require-tag.ts'
import type { Session } from './session.ts'
import { startWorkflow } from './start-workflow.ts'
import { ticketed } from './ticketed.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  to?: string
  reason: string
  direct?: true
}

export function rollback(program: Command): void {
  verb(program, {
    usage: 'rollback <dataset>',
    summary: 'take readers back to a retained version; quarantines the one they leave and puts the dataset on hold',
    examples: [
      ['snapflip rollback shop --reason "prices are off"', 'to the version before'],
      ['snapflip rollback shop --to v20260518-01 --reason "last good one"', 'to a version by its tag'],
      ['snapflip rollback shop --direct --reason "prices are off"', 'from here, with Temporal or PostgreSQL down'],
    ],
    more: 'No build, source or gate is needed. The hold keeps the next refresh from bringing the bad data back; `snapflip resume` lifts it. Refused are a version that is gone, quarantined or damaged, the one readers are on, and one that is newer (`snapflip flip` goes forward; with PostgreSQL down, this by --to). Asked for twice, it goes back once: while its hold stands, --to goes further, also while it still reads what it took readers back to. A worker does it, or with --direct this process.',
    ends: ['UNKNOWN_VERSION', 'VERSION_RETIRED', 'VERSION_QUARANTINED', 'CONFLICT', 'VERIFY_FAILED', 'FORBIDDEN'],
  })
    .option('--to <tag>', 'the version to go to; without it the one that was active before')
    .option(
      '--direct',
      'without Temporal; and where PostgreSQL does not answer either, in the store alone (break-glass)',
    )
    .requiredOption('--reason <text>', 'kept in the history, and shown with the hold', reason)
    .action(act<Options, [string]>(run))
}

async function run(session: Session, options: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  if (options.to !== undefined) await requireTag(session, dataset, options.to)
  const { reason, to } = options
  const request = {
    dataset,
    reason,
    ...(to === undefined ? {} : { to }),
    ...(await readersOn(session, dataset)),
  }
  if (options.direct) {
    const { rollbackDirect } = await import('./rollback-direct.ts')
    return rollbackDirect(session, request)
  }
  return byWorkflow(session, request).catch((error: unknown) => {
    if (!isSnapflipError(error, 'TEMPORAL_UNREACHABLE') && !isSnapflipError(error, 'POSTGRES_UNREACHABLE')) throw error
    const message = `${error.message} Without waiting for it: \`snapflip rollback ${dataset} --direct --reason …\`.`
    throw new SnapflipError(error.code, message, error.details, error)
  })
}

/** What readers are to be taken from: however late this is taken up, from no other. A store that does not answer is told of by whoever has to change it. */
async function readersOn(session: Session, dataset: string): Promise<Pick<RollbackRequest, 'from'>> {
  try {
    const active = (await (await session.store(dataset)).pointer.read())?.pointer.active ?? null
    return active === null ? {} : { from: active.tag }
  } catch {
    return {}
  }
}

async function byWorkflow(session: Session, asked: RollbackRequest): Promise<Answer> {
  const { dataset, to } = asked
  const request = await ticketed(session, 'rollback', asked)
  const start = (workflowId: string) =>
    startWorkflow(session, 'rollback', workflowId, request, {
      code: 'CONFLICT',
      message: `Expected no open rollback of ${dataset}, found workflow ${workflowId} at work. \`snapflip status ${dataset}\` shows where readers are: once it has taken them back, --to takes them to an older version without waiting for its end; where no worker is there to do it, --direct does.`,
    })
  const { client, handle } = await start(WORKFLOW_ID.rollback(dataset)).catch((error: unknown) => {
    // It has moved readers, and reads its version whole, which may take hours. Only by name: two that say the same mean one step back, not two.
    if (to === undefined || !isSnapflipError(error, 'CONFLICT') || error.details.step !== 'verify') throw error
    return start(WORKFLOW_ID.rollbackBeside(dataset, to))
  })
  const outcome = await follow<RollbackOutcome>(session, client, handle)
  if (outcome === DETACHED) {
    const { workflowId } = handle
    session.note(`Detached; ${workflowId} goes on: \`snapflip status ${dataset}\` shows where readers are.`)
    return { json: { dataset, workflowId, detached: true }, text: '', detached: true }
  }
  return {
    json: outcome,
    text: outcome.summary,
  }
}
