import type { Command } from 'commander'
import { quarantinedWithHold, resumeDataset } from '../../activities/hold.ts'
import { releaseVersion } from '../../activities/quarantine.ts'
import { authorize } from '../registry/authorize.ts'
import { changeDeps } from './change-deps.ts'
import { reason } from './reason.ts'
import { releasedOf } from './released.ts'
import type { Session } from './session.ts'
import { terminal } from './terminal.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  reason: string
  release: string[]
  keepQuarantine?: true
}

export function resume(program: Command): void {
  verb(program, {
    usage: 'resume <dataset>',
    summary: 'lift the hold of a dataset, and say what became of the version that was quarantined with it',
    examples: [
      ['snapflip resume shop --keep-quarantine --reason "source corrected"', 'refreshes go on; it never comes back'],
      ['snapflip resume shop --release v20260518-02 --reason "it was the reader"', 'it may be flipped to again'],
    ],
    more: 'It wants to know of each version that a rollback left since the last resume whether it was bad (--keep-quarantine) or good (--release): on a terminal it asks, elsewhere it is refused without.',
    ends: ['FORBIDDEN'],
  })
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .option('--keep-quarantine', 'the version was bad: it stays quarantined')
    .option('--release <tag>', 'the version was good: it may be flipped to again', collect, [])
    .action(act<Options, [string]>(run))
}

const collect = (tag: string, tags: readonly string[]) => [...tags, tag]

async function run(session: Session, options: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  const { reason } = options
  const pool = await session.registry()
  const deps = changeDeps(session, pool)
  const { actor: by } = await authorize(pool, { dataset, action: 'resume', reason })
  const quarantined = await quarantinedWithHold(deps, { dataset, by })
  const { release, keepQuarantine } = options
  const released = await releasedOf({ dataset, quarantined, release, keepQuarantine }, terminal(session))
  if (released.length > 0) await authorize(pool, { dataset, action: 'release', version: released.join(', '), reason })
  for (const tag of released) await releaseVersion(deps, { dataset, tag, by, reason })
  const kept = quarantined.filter((tag) => !released.includes(tag))
  const { lifted } = await resumeDataset(deps, { dataset, by, reason, kept })
  const told = [
    lifted ? `${dataset} goes on.` : `${dataset} was not on hold.`,
    ...kept.map((tag) => `${tag} stays quarantined.`),
    ...released.map((tag) => `${tag} may be flipped to again: \`snapflip flip ${dataset} ${tag} --reason …\`.`),
  ]
  return { json: { dataset, lifted, kept, released }, text: told.join('\n') }
}
