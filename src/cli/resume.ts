import type { Command } from 'commander'
import { resumeDataset } from '../../activities/hold.ts'
import { authorize } from '../registry/authorize.ts'
import { changeDeps } from './change-deps.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  reason: string
}

export function resume(program: Command): void {
  verb(program, {
    usage: 'resume <dataset>',
    summary: 'lift the hold of a dataset; quarantined versions stay so',
    examples: [['snapflip resume shop --reason "source corrected"', 'refreshes go on']],
  })
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .action(act<Options, [string]>(run))
}

async function run(session: Session, { reason }: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  const pool = await session.registry()
  const { actor: by } = await authorize(pool, { dataset, action: 'resume', reason })
  const { lifted } = await resumeDataset(changeDeps(session, pool), { dataset, by, reason })
  return { json: { dataset, lifted }, text: lifted ? `${dataset} goes on.` : `${dataset} was not on hold.` }
}
