import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { type Config, datasetSchema } from '../../schemas/config.ts'
import { nameSchema } from '../../schemas/name.ts'
import { SnapflipError } from '../core/errors.ts'
import { FILE_NAMES, loadConfig } from '../load-config.ts'
import { definitionText, findTables, indexesOf } from './definition-of-tables.ts'
import { type AgentName, agentNames, plannedGuides, writeGuides } from './guides.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  database?: string
  store?: string
  dataset?: string
  force?: boolean
  agents: AgentName[]
}

/** A definition that nobody can read helps nobody; who has more tables names them. */
const TABLES_MAX = 50

export function init(program: Command): void {
  verb(program, {
    usage: 'init',
    summary:
      'write snapflip.config.ts from the tables in the database, as a start to edit; and what people and assistants must know of it',
    examples: [
      ['snapflip init', 'reads DATABASE_URL; again: keeps the definition, updates the rest between its marks'],
      ['snapflip init --dataset shop --store "$REDIS_URL"', 'names the dataset and the store'],
      ['snapflip init --agents claude,cursor', "writes Cursor's rules as well as the section of CLAUDE.md"],
    ],
  })
    .option('--database <url>', 'where to look; without it DATABASE_URL. Never written into the file')
    .option('--store <url>', 'where versions shall be kept, without credentials; without it file:./versions')
    .option('--dataset <name>', 'the name of the dataset; without it shop')
    .option('--agents <names>', 'whose instructions to write: claude, cursor', agentNames, ['claude'])
    .option('--force', 'overwrite a definition that is there')
    .action(act<Options>(run))
}

async function run(session: Session, options: Options): Promise<Answer> {
  const file = resolve(options.config ?? FILE_NAMES.find((name) => existsSync(name)) ?? FILE_NAMES[0])
  const folder = dirname(file)
  const keeps = existsSync(file) && options.force !== true
  if (keeps) refuseTables(file, options)
  const made = keeps ? null : await definitionOf(session, options)
  const datasets = made === null ? (await loadConfig(file)).config.datasets : made.datasets
  // Before anything is written: marks that are damaged stop it all.
  const guides = await plannedGuides(folder, { datasets }, options.agents)
  if (made !== null) await writeFile(file, made.text, { flag: options.force ? 'w' : 'wx' })
  await writeGuides(guides)
  return {
    json: {
      file,
      definition: made === null ? 'kept' : 'written',
      ...(made === null ? {} : { dataset: made.dataset, indexes: made.indexes, left: made.left }),
      guides: guides.map(({ file, change }) => ({ file, change })),
    },
    text: [
      made === null ? `Kept ${file}.` : made.told(file),
      ...guides.map(({ file, change }) => `${GUIDE_DONE[change]} ${join('.', file.slice(folder.length + 1))}.`),
      `Edit ${basename(file)}, then: snapflip plan`,
    ].join('\n'),
  }
}

const GUIDE_DONE = { written: 'Wrote', updated: 'Updated', kept: 'As it was:' } as const

/** What asks for another definition than the one that is there is not done by half. */
function refuseTables(file: string, { database, store, dataset }: Options): void {
  if (database === undefined && store === undefined && dataset === undefined) return
  throw new SnapflipError(
    'USAGE',
    `Expected no definition at ${file}, found one. Edit it, or overwrite it with --force.`,
    { file },
  )
}

async function definitionOf(session: Session, options: Options) {
  const { dataset = 'shop', store = 'file:./versions' } = options
  if (!nameSchema.safeParse(dataset).success) {
    throw new SnapflipError(
      'USAGE',
      `Expected --dataset to be letters, digits, _ and -, starting with a letter, found ${JSON.stringify(dataset)}.`,
    )
  }
  const url = options.database ?? process.env.DATABASE_URL
  if (url === undefined || url === '') {
    throw new SnapflipError(
      'USAGE',
      'Expected a PostgreSQL URL in DATABASE_URL or after --database, found neither. Give one: the tables are read from there.',
    )
  }
  const { connectRegistry } = await import('../registry/connect.ts')
  const pool = await connectRegistry(url)
  session.onClose(() => pool.end())
  const tables = await findTables(pool)
  const usable = tables.filter(({ key }) => key.length > 0).slice(0, TABLES_MAX)
  const left = tables.filter((table) => !usable.includes(table))
  const indexes = indexesOf(usable)
  const without = left.filter(({ key }) => key.length === 0).length
  const datasets: Config['datasets'] =
    indexes.size === 0
      ? {}
      : {
          [dataset]: datasetSchema.parse({
            stores: ['main'],
            indexes: Object.fromEntries(
              [...indexes].map(([name, { from, key, columns }]) => [name, { from, key, value: columns }]),
            ),
          }),
        }
  return {
    dataset,
    datasets,
    text: definitionText({ store, dataset }, indexes, left),
    indexes: usable.map(({ from }) => from),
    left: left.map(({ from }) => from),
    told: (file: string) =>
      [
        `Wrote ${file}: dataset ${dataset} with ${usable.length} index${usable.length === 1 ? '' : 'es'}.`,
        ...(without > 0
          ? [`Left out, without a primary key: ${without} table${without === 1 ? '' : 's'}, listed in the file.`]
          : []),
      ].join('\n'),
  }
}
