import type { Command } from 'commander'
import { holdDataset } from '../../activities/hold.ts'
import { authorize } from '../registry/authorize.ts'
import { changeDeps } from './change-deps.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  reason: string
}

export function hold(program: Command): void {
  verb(program, {
    usage: 'hold <dataset>',
    summary: 'pause the refreshes of a dataset; readers stay where they are',
    examples: [['snapflip hold shop --reason "supplier data under review"', 'until `snapflip resume shop`']],
    more: 'A refresh that runs does not flip any more; rollbacks do. Another hold takes the place of the one before, and the history has both.',
    ends: ['FORBIDDEN'],
  })
    .requiredOption('--reason <text>', 'kept in the history, and shown to whoever refreshes', reason)
    .action(act<Options, [string]>(run))
}

async function run(session: Session, { reason }: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  const pool = await session.registry()
  const { actor: by } = await authorize(pool, { dataset, action: 'hold', reason })
  const { hold, replaced } = await holdDataset(changeDeps(session, pool), { dataset, by, reason })
  const instead = replaced === null ? '' : ` It replaces the hold by ${replaced.by}: ${replaced.reason}.`
  return {
    json: { dataset, hold, replaced },
    text: `${dataset} is on hold by ${hold.by}: ${hold.reason}.${instead} \`snapflip resume ${dataset} --reason …\` lifts it.`,
  }
}
