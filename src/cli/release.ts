import type { Command } from 'commander'
import { releaseVersion } from '../../activities/quarantine.ts'
import { authorize } from '../registry/authorize.ts'
import { changeDeps } from './change-deps.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  reason: string
}

export function release(program: Command): void {
  verb(program, {
    usage: 'release <dataset> <tag>',
    summary: 'lift the quarantine of a version: flips and rollbacks may go to it again',
    examples: [['snapflip release shop v20260518-02 --reason "it was the reader"', 'nothing is flipped by it']],
    more: 'It is what it was before: one that readers were on may be flipped or rolled back to.',
    ends: ['UNKNOWN_VERSION', 'FORBIDDEN'],
  })
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .action(act<Options, [string, string]>(run))
}

async function run(session: Session, { reason }: Options, dataset: string, tag: string): Promise<Answer> {
  await session.dataset(dataset)
  const pool = await session.registry()
  const { actor: by } = await authorize(pool, { dataset, action: 'release', version: tag, reason })
  const { released } = await releaseVersion(changeDeps(session, pool), { dataset, tag, by, reason })
  return {
    json: { dataset, tag, released },
    text: released ? `${tag} of ${dataset} may be flipped to again.` : `${tag} of ${dataset} was not quarantined.`,
  }
}
