import { type Command, InvalidArgumentError } from 'commander'
import { pinDataset, unpinDataset } from '../../activities/pin.ts'
import { SnapflipError } from '../core/errors.ts'
import { authorize } from '../registry/authorize.ts'
import { changeDeps } from './change-deps.ts'
import { moment } from './moment.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { formatTime } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  until?: Date
  reason: string
  lift?: true
}

export function pin(program: Command): void {
  verb(program, {
    usage: 'pin <dataset> [tag]',
    summary: 'keep readers on a version, whatever is flipped beneath; or lift that',
    examples: [
      ['snapflip pin shop v20260518-01 --until 2026-05-20T18:00:00Z --reason "audit"', 'readers stay there'],
      ['snapflip pin shop --lift --reason "audit done"', 'readers follow the pointer again'],
    ],
    more: 'Flips and rollbacks go on beneath; readers that follow the dataset get them when it ends. It ends with the quarantine of its version. Refused are a version that readers never were on, one that is gone, and a time that is past.',
    ends: ['UNKNOWN_VERSION', 'CONFLICT', 'FORBIDDEN'],
  })
    .option('--until <time>', 'when readers follow the pointer again by themselves, by their own clocks', moment)
    .option('--lift', 'lift the pin that there is')
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .action(act<Options, [string, string | undefined]>(run))
}

async function run(session: Session, options: Options, dataset: string, tag: string | undefined): Promise<Answer> {
  await session.dataset(dataset)
  const { until, lift, reason } = options
  if (lift ? tag !== undefined || until !== undefined : tag === undefined || until === undefined) {
    throw new SnapflipError(
      'USAGE',
      `Expected a tag with --until, or --lift without either, found ${lift ? 'both' : `${tag ?? 'no tag'} and ${until === undefined ? 'no --until' : '--until'}`}. See \`snapflip pin --help\`.`,
      { dataset },
    )
  }
  const pool = await session.registry()
  const { actor: by } = await authorize(pool, { dataset, action: 'pin', version: tag, reason })
  const deps = changeDeps(session, pool)
  if (tag === undefined || until === undefined) {
    const { lifted } = await unpinDataset(deps, { dataset, by, reason })
    const text =
      lifted === null
        ? `${dataset} was not pinned.`
        : `${dataset} is not pinned to ${lifted} any more: readers follow the pointer.`
    return { json: { dataset, lifted }, text }
  }
  if (until.getTime() <= Date.now())
    throw new InvalidArgumentError(`Expected --until to be a time to come, found ${until.toISOString()}.`)
  const at = until.toISOString()
  const { active } = await pinDataset(deps, { dataset, tag, until: at, by, reason })
  const beneath = active === tag ? '' : ` The pointer is at ${active ?? 'no version'}.`
  return {
    json: { dataset, tag, until: at, by, active },
    text: `Readers of ${dataset} stay on ${tag} until ${formatTime(until)}.${beneath} \`snapflip pin ${dataset} --lift --reason …\` ends it.`,
  }
}
