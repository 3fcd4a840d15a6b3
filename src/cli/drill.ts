import type { Command } from 'commander'
import { type DrillOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { isSnapflipError } from '../core/errors.ts'
import { openDrillOf } from '../registry/drills.ts'
import { recordEvent } from '../registry/record.ts'
import { DETACHED, follow } from './follow.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { startWorkflow } from './start-workflow.ts'
import { table } from './table.ts'
import { authorizedWhereKnown, ticketed } from './ticketed.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  reason?: string
  op: boolean
  end?: true
}

export function drill(program: Command): void {
  verb(program, {
    usage: 'drill <dataset>',
    summary: 'rehearse a rollback: to the version before and back, and say how long it took to the last reader',
    examples: [
      ['snapflip drill shop', 'readers are on the version before for a few seconds'],
      ['snapflip drill shop --no-op', 'only raises the epoch: readers stay on the version they are on'],
      ['snapflip drill shop --end', 'brings readers back from a drill that did not end'],
    ],
    more: 'Readers really move; no hold, no quarantine, and what was served before is served again at its end. Refused are a dataset on hold, with an open refresh, a canary or a bake, and one without a version before (--no-op does with one). A rollback that comes in between stands: the drill ends as OVERTAKEN.',
    ends: ['CONFLICT', 'REFRESH_RUNNING', 'FORBIDDEN'],
  })
    .option('--reason <text>', 'kept in the history', reason)
    .option('--no-op', 'flip to the version that is active')
    .option('--end', 'end the drill that is open')
    .action(act<Options, [string]>(run))
}

async function run(session: Session, { reason, op, end }: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  const workflowId = WORKFLOW_ID.drill(dataset)
  const request = await ticketed(session, 'drill', {
    dataset,
    noOp: !op,
    end: end === true,
    ...(reason === undefined ? {} : { reason }),
  })
  const { client, handle } = await startWorkflow(session, 'drill', workflowId, request, {
    code: 'REFRESH_RUNNING',
    message: `Expected no drill of ${dataset} at work, found workflow ${workflowId}. It ends by itself.`,
  }).catch(async (error: unknown) => {
    // One that is still at work brings readers back as soon as it is told to.
    if (!end || !isSnapflipError(error, 'REFRESH_RUNNING')) throw error
    const client = await session.temporal()
    const handle = client.workflow.getHandle(workflowId)
    await authorizedWhereKnown(session, { dataset, action: 'drill', reason }, async () => {
      const pool = await session.registry()
      const detail = { drillId: (await openDrillOf(pool, dataset))?.drillId ?? null, reason }
      await recordEvent(pool, { dataset, actor: null, kind: 'drill.cancelled', detail })
    })
    await handle.cancel()
    return { client, handle }
  })
  const outcome = await follow<DrillOutcome>(session, client, handle)
  if (outcome === DETACHED) {
    session.note(`Detached; ${workflowId} goes on: \`snapflip status ${dataset}\` shows where readers are.`)
    return { json: { dataset, workflowId, detached: true }, text: '', detached: true }
  }
  const text = [`${outcome.status}: ${outcome.summary}.`, ...timesOf(outcome)].join('\n')
  return { json: outcome, text, ...(outcome.status === 'OVERTAKEN' ? { code: 'CONFLICT' as const } : {}) }
}

/** Last readers are told only where readers report. */
function timesOf({ timesMs, from, to }: DrillOutcome): string[] {
  const ms = (name: string) => (timesMs[name] === undefined ? null : `${Math.round(timesMs[name])} ms`)
  const rows = [
    [`${from} → ${to}`, ms('away'), ms('awayToLastReader')],
    [`${to} → ${from}`, ms('back'), ms('backToLastReader')],
  ].filter(([, toPointer]) => toPointer !== null)
  return rows.length === 0
    ? []
    : [table(['', 'to the pointer', `to the last of ${timesMs.readers ?? 0} readers`], rows)]
}
