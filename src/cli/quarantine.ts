import type { Command } from 'commander'
import { quarantineVersion } from '../../activities/quarantine.ts'
import { authorize } from '../registry/authorize.ts'
import { changeDeps } from './change-deps.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  reason: string
}

export function quarantine(program: Command): void {
  verb(program, {
    usage: 'quarantine <dataset> <tag>',
    summary: 'forbid every flip and rollback to a version that readers are not on',
    examples: [['snapflip quarantine shop v20260518-01 --reason "wrong currency"', 'until `snapflip release`']],
    more: 'A pin to it ends. Refused is the version that readers are on: `snapflip rollback` leaves it and quarantines it.',
    ends: ['UNKNOWN_VERSION', 'CONFLICT', 'FORBIDDEN'],
  })
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .action(act<Options, [string, string]>(run))
}

async function run(session: Session, { reason }: Options, dataset: string, tag: string): Promise<Answer> {
  await session.dataset(dataset)
  const pool = await session.registry()
  const { actor: by } = await authorize(pool, { dataset, action: 'quarantine', version: tag, reason })
  await quarantineVersion(changeDeps(session, pool), { dataset, tag, by, reason })
  return {
    json: { dataset, tag, quarantined: true },
    text: `${tag} of ${dataset} is quarantined. \`snapflip release ${dataset} ${tag} --reason …\` lifts it.`,
  }
}
