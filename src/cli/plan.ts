import type { Command } from 'commander'
import type { ClientBase } from 'pg'
import { changeText } from '../core/definition-changes.ts'
import { formatBytes } from '../core/format-bytes.ts'
import { migrationsPending, rehearsed } from '../registry/migrate.ts'
import { droppedText, notInFile } from './dropped.ts'
import { type DatasetPlan, planOf } from './plan-of.ts'
import type { Session } from './session.ts'
import { table } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

export function plan(program: Command): void {
  verb(program, {
    usage: 'plan [dataset...]',
    summary: 'say what `apply` would change, and how the next refresh would build; changes nothing',
    examples: [
      ['snapflip plan', 'all datasets'],
      ['snapflip plan shop', 'one of them'],
    ],
  }).action(act<CommonOptions, [string[]]>(run))
}

async function run(session: Session, _options: CommonOptions, datasets: string[]): Promise<Answer> {
  const names = await named(session, datasets)
  const pool = await session.database()
  const migrations = await migrationsPending(pool)
  if (migrations.length > 0) {
    // Expressions are checked by functions that the migrations bring.
    const plans = await rehearsed(await session.builder(), migrations, (client) => plansOf(session, names, client))
    return {
      json: { migrations, datasets: plans },
      text: [migrationsText(migrations), ...plans.map(planText)].join('\n\n'),
    }
  }
  const plans = await plansOf(session, names)
  const dropped = await notInFile(session, pool)
  return {
    json: { migrations, datasets: plans, notInFile: dropped },
    text: [plans.map(planText).join('\n\n') || 'The definition has no datasets yet.', droppedText(dropped)]
      .filter((part) => part !== '')
      .join('\n\n'),
  }
}

/** The datasets asked for, or all. @throws SnapflipError UNKNOWN_DATASET */
export async function named(session: Session, datasets: readonly string[]): Promise<string[]> {
  for (const name of datasets) await session.dataset(name)
  return datasets.length > 0 ? [...new Set(datasets)] : Object.keys((await session.config()).datasets)
}

/** Every dataset is checked, its store too, before anything is changed. `rehearsal`: where snapflip's tables are not there to stay. */
export async function plansOf(
  session: Session,
  names: readonly string[],
  rehearsal: ClientBase | null = null,
): Promise<DatasetPlan[]> {
  const registry = rehearsal ?? (await session.database())
  const client = rehearsal ?? (await session.builder())
  const plans: DatasetPlan[] = []
  for (const name of names) {
    await checkStores(session, name)
    plans.push(await planOf(session, client, registry, name))
  }
  return plans
}

/** Of the dataset, all: a store that cannot keep what it is given is told before anything is changed. */
export async function checkStores(session: Session, dataset: string): Promise<void> {
  await (await session.store(dataset)).check()
  for (const { store } of await session.furtherStores(dataset)) await store.check()
}

export function migrationsText(migrations: readonly string[]): string {
  return `snapflip's tables: to be made or changed by ${migrations.join(', ')}.`
}

export function planText(plan: DatasetPlan): string {
  const { dataset, definition, changes, policy, attach, detach, lost, indexes, schedule, store, furtherStores } = plan
  const lines = [
    `${dataset}: definition ${definition}`,
    ...policy.map((line) => `  ${line}`),
    ...(definition === 'new' ? ['  declared, against what holds without:'] : []),
    ...changes.map((change) => `  ~ ${changeText(change)}`),
  ]
  if (store.movedFrom !== null)
    lines.push(
      `  MOVES from ${store.movedFrom} to ${store.url}: built anew there, unless its versions were brought along`,
    )
  if (lost !== null) lines.push(`  LOST: ${lost}`)
  for (const name of attach) lines.push(`  + capture on ${name}`)
  for (const name of detach) lines.push(`  - capture on ${name}`)
  if (attach.length + detach.length === 0) lines.push('  capture as it must be')
  if (schedule !== null) lines.push(`  schedule ${schedule === 'as applied' ? 'as applied' : `to ${schedule}`}`)
  for (const name of furtherStores.add) lines.push(`  + store ${name}: the next refresh copies the version there`)
  for (const name of furtherStores.remove) lines.push(`  - store ${name}: followed no more; what lies there stays`)
  const rows = indexes.map(({ index, from, build, reason, entries, bytes }) => [
    index,
    from ?? 'events',
    build,
    entries,
    bytes === null ? null : formatBytes(bytes),
    reason,
  ])
  lines.push(table(['index', 'from', 'next build', 'entries', 'bytes', 'why'], rows))
  const needed =
    store.neededBytes === null
      ? 'full builds need an unknown number of bytes'
      : store.neededBytes === 0
        ? 'no full build to make room for'
        : `full builds need about ${formatBytes(store.neededBytes)}`
  const free = store.freeBytes === null ? 'no limit known' : `${formatBytes(store.freeBytes)} free`
  lines.push(`Store ${store.name} (${store.url}): ${needed}, ${free}${store.fits ? '' : ': NOT ENOUGH'}.`)
  return lines.join('\n')
}
