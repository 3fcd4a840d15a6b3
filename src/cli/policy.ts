import type { Command } from 'commander'
import { type Action, ROLES } from '../../schemas/roles.ts'
import { changeText } from '../core/definition-changes.ts'
import { SnapflipError } from '../core/errors.ts'
import { whoMay } from '../core/roles.ts'
import { notApplied } from '../registry/dataset-lock.ts'
import { type PolicyVersion, policyVersions } from '../registry/policy-versions.ts'
import { positive } from './history.ts'
import type { Session } from './session.ts'
import { card, formatTime, table } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  number?: number
}

/** Of each version in the list; --number has all. */
const CHANGES_MAX = 3

export function policy(program: Command): void {
  verb(program, {
    usage: 'policy <dataset>',
    summary: 'the definitions that were applied, by number: who applied them, what each changed, who may do what',
    examples: [
      ['snapflip policy shop', 'who may do what now, and how it came to be'],
      ['snapflip policy shop --number 2', 'all of one'],
    ],
  })
    .option('--number <n>', 'this one, whole, and all that it changed', positive)
    .action(act<Options, [string]>(run))
}

async function run(session: Session, { number }: Options, dataset: string): Promise<Answer> {
  const versions = await policyVersions(await session.registry(), dataset)
  const [inForce] = versions
  // One that is no longer in the file has its policies still.
  if (inForce === undefined) {
    await session.dataset(dataset)
    throw notApplied(dataset, 'found none')
  }
  if (number !== undefined) {
    const asked = versions.find((version) => version.number === number)
    if (asked === undefined) {
      throw new SnapflipError(
        'USAGE',
        `Expected a policy of ${dataset} from 1 to ${inForce.number}, found ${number}. \`snapflip policy ${dataset}\` lists them.`,
        { dataset, number },
      )
    }
    return { json: { dataset, policy: asked }, text: whole(dataset, asked) }
  }
  const may = mayOf(inForce)
  return {
    json: { dataset, may, versions: versions.map(({ definition: _body, ...version }) => version) },
    text: [mayText(inForce, may), list(versions)].join('\n\n'),
  }
}

function mayOf({ definition }: PolicyVersion): { action: Action; least: string; actors: string[] | null }[] {
  // One that was applied by an earlier snapflip says nothing of actions that it did not know.
  const actions = Object.keys(definition.may ?? {}) as Action[]
  return actions.map((action) => ({
    action,
    least: definition.may[action],
    actors: whoMay(definition, action),
  }))
}

function mayText({ definition: { roles } }: PolicyVersion, may: ReturnType<typeof mayOf>): string {
  if (roles === undefined) return 'No roles are declared: whoever may connect may do everything.'
  const known = ROLES.map((role) => [role, roles[role]?.join(', ') ?? '-'] as const)
  const rows = may.map(({ action, least, actors }) => [action, least, actors?.join(', ') || 'nobody'])
  return [card(known), table(['action', 'least role', 'who may'], rows)].join('\n\n')
}

function list(versions: readonly PolicyVersion[]): string {
  const rows = versions.map(({ number, appliedAt, appliedBy, digest, changes }) => {
    const told = changes.slice(0, CHANGES_MAX).map(changeText)
    const more = changes.length > CHANGES_MAX ? [`and ${changes.length - CHANGES_MAX} more`] : []
    return [
      number,
      formatTime(appliedAt),
      appliedBy,
      digest.slice(0, 12),
      number === 1 ? 'the first' : [...told, ...more].join('; '),
    ]
  })
  return table(['policy', 'applied', 'by', 'digest', 'changed'], rows)
}

function whole(dataset: string, { number, appliedAt, appliedBy, digest, definition, changes }: PolicyVersion): string {
  const identity = card([
    ['policy', `${number} of ${dataset}`],
    ['applied', `${formatTime(appliedAt)} by ${appliedBy}`],
    ['digest', digest],
  ])
  const parts = [identity, JSON.stringify(definition, null, 2)]
  if (number > 1) parts.splice(1, 0, changes.map(changeText).join('\n'))
  return parts.join('\n\n')
}
