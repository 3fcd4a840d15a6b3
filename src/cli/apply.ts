import type { Command } from 'commander'
import type pg from 'pg'
import { attach, detach } from '../changelog/capture.ts'
import { resolveSource } from '../changelog/definition.ts'
import type { Source } from '../changelog/source.ts'
import { SnapflipError } from '../core/errors.ts'
import { applyDefinition, requireSomebody } from '../registry/apply-definition.ts'
import { applyFurtherStores } from '../registry/apply-further-stores.ts'
import { applyStore } from '../registry/apply-store.ts'
import { authorize } from '../registry/authorize.ts'
import { migrate, migrationsPending, rehearsed } from '../registry/migrate.ts'
import { recordEvent } from '../registry/record.ts'
import type { Db } from '../registry/transaction.ts'
import { manifestHash } from '../snapshot/manifest.ts'
import { applySchedule } from './apply-schedule.ts'
import { droppedText, notInFile } from './dropped.ts'
import { requireNoReaders } from './live-readers.ts'
import { checkStores, migrationsText, named, plansOf, planText } from './plan.ts'
import { type DatasetPlan, requireRoom } from './plan-of.ts'
import type { Session } from './session.ts'
import { type Ask, terminal } from './terminal.ts'
import { requireTables } from './used-tables.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  yes?: boolean
  move?: boolean
  force?: boolean
}

export function apply(program: Command): void {
  verb(program, {
    usage: 'apply [dataset...]',
    summary: 'make the database what the definition says: tables of snapflip, capture triggers, the definition itself',
    examples: [
      ['snapflip apply', 'all datasets; asks first on a terminal'],
      ['snapflip apply shop --yes', 'one of them, without asking'],
      ['snapflip apply --yes --move', 'the same where a dataset moves to another store'],
    ],
    ends: ['FORBIDDEN', 'REFRESH_RUNNING'],
  })
    .option('--yes', 'do not ask')
    .option('--move', 'also where that moves a dataset to another store, or takes capture off tables, without asking')
    .option('--force', 'also where this file has a dataset no longer that readers use still')
    .action(act<Options, [string[]]>(run))
}

async function run(session: Session, options: Options, datasets: string[]): Promise<Answer> {
  const names = await named(session, datasets)
  const pool = await session.database()
  // Stores first: they need none of snapflip's tables, and a wrong one shall change nothing.
  for (const name of names) await checkStores(session, name)
  const migrations = await migrationsPending(pool)
  for (const name of names) await requireTables(pool, name, await session.dataset(name))
  const ask = options.yes === true ? null : terminal(session)
  if (migrations.length > 0) {
    session.note(migrationsText(migrations))
    await refuseBefore(session, pool, migrations, { names, datasets, options })
    if (ask !== null) await consent(ask, 'Make them?')
    await migrate((await session.config()).database)
  }
  // Before anything else is changed, and of all: half an apply would be worse than none.
  const actors = new Map<string, string>()
  for (const name of names) {
    actors.set(name, (await authorize(pool, { dataset: name, action: 'apply' })).actor)
    await requireSomebody(pool, { dataset: name, definition: await session.dataset(name) })
  }
  const plans = await plansOf(session, names)
  for (const plan of plans) requireRoom(plan)
  const dropped = await notInFile(session, pool)
  session.note([...plans.map(planText), droppedText(dropped)].filter((part) => part !== '').join('\n\n'))
  // Named ones say nothing of the rest of the file.
  if (datasets.length === 0 && options.force !== true) await refuseDropped(session, pool, dropped)
  if (ask === null && options.move !== true) refuseMoves(plans)
  if (ask !== null && plans.some(changes)) await consent(ask, 'Apply this?')
  // Before anything is changed: schedules are Temporal's.
  if (plans.some(({ schedule }) => schedule !== null)) await session.temporal()

  const client = await session.builder()
  const results = []
  for (const { dataset, detach: unused, schedule } of plans) {
    const definition = await session.dataset(dataset)
    const sources: Source[] = []
    for (const [index, declared] of Object.entries(definition.indexes))
      sources.push(await resolveSource(client, dataset, index, declared))
    const attached = (await attach(client, sources)).filter(({ changed }) => changed).map(({ table }) => table)
    const by = actors.get(dataset) ?? null
    const { number, changed } = await applyDefinition(pool, { dataset, definition })
    const store = await session.store(dataset)
    const { movedFrom } = await applyStore(pool, {
      dataset,
      url: store.url,
      by,
      holds: async ({ tag, manifestSha256 }) => {
        const bytes = await store.data.readManifest(tag)
        return bytes !== null && manifestHash(bytes) === manifestSha256
      },
    })
    const further = (await session.furtherStores(dataset)).map(({ name, store }) => ({ name, url: store.url }))
    const stores = await applyFurtherStores(pool, { dataset, stores: further, by })
    if (attached.length > 0)
      await recordEvent(pool, { dataset, actor: by, kind: 'capture.attached', detail: { tables: attached } })
    const detached = unused.length === 0 ? [] : await detach(client, unused)
    if (detached.length > 0)
      await recordEvent(pool, { dataset, actor: by, kind: 'capture.removed', detail: { tables: detached } })
    if (schedule !== null) await applySchedule(session, dataset, definition.schedule)
    results.push({
      dataset,
      definition: number,
      changed,
      movedFrom,
      store: store.url,
      stores,
      attached,
      detached,
      schedule,
    })
  }
  const text = results.map(({ dataset, definition, changed, movedFrom, store, stores, attached, detached, schedule }) =>
    [
      `${dataset}: ${changed ? `definition ${definition} applied` : `definition ${definition} was applied before`}`,
      ...(movedFrom === null ? [] : [`moved from ${movedFrom} to ${store}`]),
      ...(stores.added.length > 0 ? [`published to ${stores.added.join(', ')} from the next refresh on`] : []),
      ...(stores.removed.length > 0 ? [`${stores.removed.join(', ')} followed no more`] : []),
      ...(attached.length > 0 ? [`capture attached to ${attached.join(', ')}`] : []),
      ...(detached.length > 0 ? [`capture taken off ${detached.join(', ')}`] : []),
      ...(schedule === null || schedule === 'as applied' ? [] : [`schedule ${SCHEDULE_DONE[schedule]}`]),
    ].join('; '),
  )
  return { json: { migrations, datasets: results }, text: text.join('\n') || 'The definition has no datasets yet.' }
}

const changes = (plan: DatasetPlan) =>
  plan.definition !== 'as applied' ||
  plan.store.movedFrom !== null ||
  plan.attach.length + plan.detach.length > 0 ||
  plan.furtherStores.add.length + plan.furtherStores.remove.length > 0

const SCHEDULE_DONE = { make: 'made', change: 'changed', remove: 'removed' } as const

/**
 * What would be refused with the tables brought up to date is refused before they are: an error that says that nothing was changed is true of them too.
 * Where there are none yet, nobody has a say and nobody reads.
 */
async function refuseBefore(
  session: Session,
  pool: pg.Pool,
  migrations: readonly string[],
  { names, datasets, options }: { names: readonly string[]; datasets: readonly string[]; options: Options },
): Promise<void> {
  const { rows } = await pool.query<{ tables: boolean; roles: boolean }>(
    `select to_regclass('snapflip.definitions') is not null as tables,
            to_regprocedure('snapflip.authorize(text, text, text, jsonb)') is not null as roles`,
  )
  if (rows[0]?.roles) for (const name of names) await authorize(pool, { dataset: name, action: 'apply' })
  if (!rows[0]?.tables) return
  await rehearsed(await session.builder(), migrations, async (registry) => {
    if (datasets.length === 0 && options.force !== true)
      await refuseDropped(session, registry, await notInFile(session, registry))
    if (options.yes === true && options.move !== true) refuseMoves(await plansOf(session, names, registry))
  })
}

/** Another file's on the same database is told apart by a person alone: by --force, or by naming what to apply. */
async function refuseDropped(session: Session, registry: Db, dropped: readonly string[]): Promise<void> {
  for (const name of dropped) await requireNoReaders(session, registry, name, `this file has it no longer`)
}

/**
 * What cannot be had back without a full build wants more than --yes, which scripts give to everything.
 *
 * @throws SnapflipError USAGE
 */
function refuseMoves(plans: readonly DatasetPlan[]): void {
  const moves = plans.flatMap(({ dataset, store, detach: unused }) => [
    ...(store.movedFrom === null ? [] : [`move ${dataset} from ${store.movedFrom} to ${store.url}`]),
    ...(unused.length === 0 ? [] : [`take capture off ${unused.join(', ')}`]),
  ])
  if (moves.length === 0) return
  throw new SnapflipError(
    'USAGE',
    `Expected --move, or a person at a terminal to ask: this would ${moves.join(', and ')}. Nothing was applied. Correct the definition, or add --move when it is meant.`,
    { moves },
  )
}

async function consent(ask: Ask, question: string): Promise<void> {
  const answer = await ask(`${question} [y/N] `)
  if (/^y(es)?$/i.test(answer.trim())) return
  throw new SnapflipError('CANCELLED', 'Not applied: nothing was changed.')
}
