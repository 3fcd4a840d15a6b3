import type { Command } from 'commander'
import { versions as versionsOf } from '../registry/versions.ts'
import type { Session } from './session.ts'
import { formatTime, table } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  all?: boolean
}

export function versions(program: Command): void {
  verb(program, {
    usage: 'versions <dataset>',
    summary: 'list the versions, newest first',
    examples: [
      ['snapflip versions shop', 'those that are kept'],
      ['snapflip versions shop --all', 'and those that are gone'],
    ],
  })
    .option('--all', 'also those that were given up, or deleted')
    .action(act<Options, [string]>(run))
}

async function run(session: Session, options: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  const all = await versionsOf(await session.registry(), dataset)
  const listed = options.all ? all : all.filter(({ state }) => state !== 'retired' && state !== 'swept')
  const gone = all.length - listed.length
  const text =
    listed.length === 0
      ? `${dataset} has no versions${gone > 0 ? ` but ${gone} that are gone (--all)` : `: \`snapflip refresh ${dataset}\` builds the first`}.`
      : table(
          ['version', 'state', 'since', 'sealed', 'watermark', 'parent', 'digest'],
          listed.map((version) => [
            version.tag,
            version.state,
            formatTime(version.stateAt),
            formatTime(version.sealedAt),
            formatTime(version.watermark?.at ?? null),
            version.parent,
            version.digest?.slice(0, 12) ?? null,
          ]),
        )
  return { json: { dataset, versions: listed }, text }
}
