import type { Command } from 'commander'
import { detach as detachTables, listCaptures } from '../changelog/capture.ts'
import { authorize } from '../registry/authorize.ts'
import { currentDefinition } from '../registry/current-definition.ts'
import { detachDataset } from '../registry/detach-dataset.ts'
import { applySchedule } from './apply-schedule.ts'
import { requireNoReaders } from './live-readers.ts'
import type { Session } from './session.ts'
import { tableNames, usedElsewhere } from './used-tables.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  force?: boolean
}

export function detach(program: Command): void {
  verb(program, {
    usage: 'detach <dataset>',
    summary: 'take capture off the tables that no other dataset uses; versions stay readable, `apply` attaches again',
    examples: [['snapflip detach shop', 'leaves no trigger behind']],
    ends: ['REFRESH_RUNNING', 'FORBIDDEN'],
  })
    .option('--force', 'also where readers use it still')
    .action(act<Options, [string]>(run))
}

async function run(session: Session, options: Options, dataset: string): Promise<Answer> {
  const registry = await session.registry()
  const { actor: by } = await authorize(registry, { dataset, action: 'apply' })
  const applied = await currentDefinition(registry, dataset)
  // One that was dropped from the file is known from its last apply.
  const definition = applied === null ? await session.dataset(dataset) : (await session.config()).datasets[dataset]
  if (options.force !== true)
    await requireNoReaders(session, registry, dataset, `detach ends the capture of its changes`)
  const client = await session.builder()
  const indexes = [definition, applied?.definition].flatMap((each) => Object.values(each?.indexes ?? {}))
  const elsewhere = await usedElsewhere(session, client, registry, dataset)
  const captures = await listCaptures(client)
  const mine = new Set(await tableNames(client, indexes))
  const tables = captures
    .filter(({ name, gone }) => gone || (mine.has(name) && !elsewhere.has(name)))
    .map(({ name }) => name)
  const kept = [...mine].filter((name) => elsewhere.has(name))
  await detachDataset(registry, { dataset, by, tables, kept })
  const detached = await detachTables(client, tables)
  if (applied?.definition.schedule !== undefined) await applySchedule(session, dataset, undefined)
  const lines = [
    detached.length === 0
      ? `${dataset}: no capture to take off.`
      : `${dataset}: capture taken off ${detached.join(', ')}.`,
  ]
  if (kept.length > 0) lines.push(`Left on ${kept.join(', ')}: other datasets use it.`)
  return { json: { dataset, detached, kept }, text: lines.join('\n') }
}
