import type { Client as TemporalClient } from '@temporalio/client'
import type { Command } from 'commander'
import type { Client, Pool } from 'pg'
import type { Pointer } from '../../schemas/pointer.ts'
import { resolveSource } from '../changelog/definition.ts'
import { captureFault } from '../changelog/facts.ts'
import { capturedTables, type Source } from '../changelog/source.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { expiredByMs } from '../core/expiry.ts'
import { formatBytes } from '../core/format-bytes.ts'
import { buildsQueue, watchesQueue } from '../core/task-queues.ts'
import { checkQueries } from '../gates/check-queries.ts'
import { requireApplied } from '../registry/current-definition.ts'
import { openFlips } from '../registry/flips.ts'
import { knownPointer } from '../registry/known-pointer.ts'
import { lackingGrants } from '../registry/lacking-grants.ts'
import { migrationsPending } from '../registry/migrate.ts'
import { server } from '../registry/server.ts'
import { strayEvents } from '../registry/stray-events.ts'
import { SEARCH_ATTRIBUTES } from '../temporal/search-attributes.ts'
import { lookAtAlerts } from './alerts-checks.ts'
import { bad, type Check, checked, good } from './check.ts'
import { disagreement } from './disagreement.ts'
import { temporalOf, workersPolling } from './follow.ts'
import { furtherStandings, standingText } from './further-standing.ts'
import { lookAtWebhooks } from './gate-checks.ts'
import { grantsText, sourceNames } from './grants.ts'
import { hideCredentials } from './print-error.ts'
import type { Session } from './session.ts'
import { table } from './table.ts'
import { temporalFailure } from './temporal.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  grants?: boolean
}

/** Below this much of its memory or disk a store is said to be short. */
const FREE_BYTES_MIN = 64 << 20

export function doctor(program: Command): void {
  verb(program, {
    usage: 'doctor',
    summary:
      'look at everything a refresh needs and say what to do about what is not well; exit code 0 only when all is',
    examples: [
      ['snapflip doctor', 'definition, PostgreSQL, capture, stores, Temporal, worker'],
      ['snapflip doctor --grants', 'prints SQL for the roles and a Redis ACL for readers'],
    ],
  })
    .option('--grants', 'print the roles for capture, worker and reader instead')
    .action(act<Options>(run))
}

async function run(session: Session, options: Options): Promise<Answer> {
  // Without a definition there is nothing to look at.
  await session.config()
  if (options.grants) {
    const grants = await grantsText(session)
    return { json: grants, text: Object.values(grants).join('\n') }
  }
  const checks: Check[] = [
    ...(await lookAtPostgres(session)),
    ...(await lookAtStores(session)),
    ...(await lookAtTemporal(session)),
    ...(await lookAtAlerts(session)),
  ]
  const sick = checks.filter(({ ok }) => !ok)
  const rows = checks.map(({ check, ok, found }) => [
    ok ? 'ok' : 'NOT OK',
    check,
    hideCredentials(ok ? found : (found.split('\n')[0] ?? '')),
  ])
  const lines = [table(['', 'what', 'found'], rows)]
  if (sick.length > 0) {
    lines.push('', 'To do:')
    for (const { check, found, todo } of sick) lines.push(`  ${check}: ${hideCredentials(todo ?? found)}`)
  } else lines.push('', 'All is well.')
  const code = sick[0]?.code ?? null
  return {
    json: { ok: sick.length === 0, checks, ...(code === null ? {} : { code }) },
    text: lines.join('\n'),
    ...(code === null ? {} : { code }),
  }
}

async function lookAtPostgres(session: Session): Promise<Check[]> {
  const checks: Check[] = []
  let pool: Pool
  try {
    pool = await session.database()
  } catch (error) {
    return [failed('postgres', error)]
  }
  const { version, role } = await server(pool)
  checks.push(good('postgres', `PostgreSQL ${version}, a primary, as ${role}`))
  const pending = await migrationsPending(pool)
  if (pending.length > 0) {
    return [
      ...checks,
      bad('tables', 'REGISTRY_NOT_MIGRATED', `missing: ${pending.join(', ')}`, 'Run `snapflip migrate`.'),
    ]
  }
  checks.push(good('tables', 'those of this snapflip'))
  checks.push(await checked('grants', () => requireGrants(session, pool)))
  let client: Client
  try {
    client = await session.builder()
  } catch (error) {
    return [...checks, failed('postgres', error)]
  }
  for (const [dataset, definition] of Object.entries((await session.config()).datasets)) {
    checks.push(
      await checked(`definition ${dataset}`, async () => {
        for (const [index, declared] of Object.entries(definition.indexes))
          await resolveSource(client, dataset, index, declared)
        await checkQueries(client, dataset, definition.gates)
        await requireApplied(pool, { dataset, definition })
        return 'fits the database, and is applied'
      }),
    )
    checks.push(...(await lookAtCapture(client, dataset, definition)), ...(await lookAtWebhooks(dataset, definition)))
    const unsettled = await openFlips(pool, dataset)
    if (unsettled.length > 0)
      checks.push(
        bad(
          `flips ${dataset}`,
          'CONFLICT',
          `${unsettled.length} without an outcome`,
          `\`snapflip refresh ${dataset}\` reads their outcome from the store and settles them.`,
        ),
      )
  }
  for (const { dataset, index, events } of await strayEvents(pool)) {
    checks.push(
      bad(
        `events ${dataset}.${index}`,
        'DEFINITION_INVALID',
        `${events} appended, and no applied definition has such an events index`,
        `Give ${dataset} an index ${index} with \`events: true\` and apply it; or correct the name where it is appended, and delete these from snapflip.events.`,
      ),
    )
  }
  return checks
}

async function lookAtCapture(
  client: Client,
  dataset: string,
  definition: Awaited<ReturnType<Session['dataset']>>,
): Promise<Check[]> {
  const sources: Source[] = []
  try {
    for (const [index, declared] of Object.entries(definition.indexes))
      sources.push(await resolveSource(client, dataset, index, declared))
  } catch {
    // Told by the look at the definition.
    return []
  }
  return capturedTables(sources).map((table) => {
    const fault = captureFault(table)
    return fault === null
      ? good(`capture ${table.name}`, 'row and truncate triggers, enabled always')
      : bad(
          `capture ${table.name}`,
          'NOT_APPLIED',
          fault,
          `${fault}. Run \`snapflip apply ${dataset}\`; the next refresh builds in full.`,
        )
  })
}

/** What a worker's role must be able to do; the statements that give it are those of --grants. */
async function requireGrants(session: Session, pool: Pool): Promise<string> {
  const { role, lacking } = await lackingGrants(pool, { tables: sourceNames(await session.config()) })
  if (lacking.length === 0) return `${role} may do what a worker does`
  throw new SnapflipError(
    'PRIVILEGE_MISSING',
    `Expected ${role} to have what a worker needs, found it lacks ${lacking.join(', ')}. Run what \`snapflip doctor --grants\` prints, then grant snapflip_worker to it.`,
    { lacking },
  )
}

async function lookAtStores(session: Session): Promise<Check[]> {
  const { datasets, stores } = await session.config()
  const checks: Check[] = []
  for (const name of Object.keys(stores)) {
    const using = Object.entries(datasets).filter(([, definition]) => definition.stores.includes(name))
    const [first] = using
    if (first === undefined) {
      checks.push(good(`store ${name}`, 'no dataset uses it: not looked at'))
      continue
    }
    checks.push(
      await checked(`store ${name}`, async () => {
        const store = await session.store(first[0], name)
        await store.check()
        const free = await store.freeBytes()
        if (free !== null && free < FREE_BYTES_MIN) {
          throw new SnapflipError(
            'STORE_FULL',
            `Expected at least ${formatBytes(FREE_BYTES_MIN)} free in ${store.url}, found ${formatBytes(free)}. Give it more, or lower \`keep\`.`,
            { store: store.url, freeBytes: free },
          )
        }
        return `${store.url}: writable, keeps what it is given${free === null ? '' : `, ${formatBytes(free)} free`}`
      }),
    )
    for (const [dataset, definition] of using) {
      if (definition.stores[0] !== name) {
        checks.push(await checked(`pointer ${dataset} in ${name}`, () => lookAtFurther(session, dataset, name)))
        continue
      }
      checks.push(
        await checked(`pointer ${dataset}`, async () => {
          const store = await session.store(dataset)
          const known = await knownPointer(await session.registry(), dataset).catch((error: unknown) => {
            // What is wrong with the registry is told by the look at it.
            if (isSnapflipError(error)) return null
            throw error
          })
          const pointer = (await store.pointer.read())?.pointer ?? null
          const differs = disagreement({ dataset, store: store.url }, pointer, known)
          if (differs !== null) throw differs
          if (pointer?.active == null) return 'no version yet'
          const expired = expiredByMs(pointer, new Date())
          if (expired !== null) throw beyondBudget(dataset, pointer, expired)
          if ((await store.data.readManifest(pointer.active.tag)) !== null) return `at ${pointer.active.tag}`
          throw new SnapflipError(
            'CORRUPT',
            `Expected the manifest of ${pointer.active.tag}, which the pointer of ${dataset} names, found none in ${store.url}. \`snapflip rollback ${dataset} --reason …\`, or \`snapflip refresh ${dataset} --full\`.`,
            { dataset, tag: pointer.active.tag },
          )
        }),
      )
    }
  }
  return checks
}

async function lookAtFurther(session: Session, dataset: string, name: string): Promise<string> {
  const standings = await furtherStandings(session, dataset, { registryAnswers: true })
  const standing = standings.find((one) => one.name === name)
  if (standing === undefined || standing.state === null) return 'nothing published yet'
  if (standing.state !== 'degraded' && standing.error === null) return `at ${standingText(standing)}`
  throw new SnapflipError(
    'STORE_DEGRADED',
    `Expected ${name} to hold what the first store of ${dataset} says, found it ${standingText(standing)} Once it answers, \`snapflip refresh ${dataset}\` brings it up.`,
    { dataset, store: name },
  )
}

function beyondBudget(dataset: string, { active, freshAsOf, ttl }: Pointer, byMs: number): SnapflipError {
  return new SnapflipError(
    'VERSION_EXPIRED',
    `Expected ${active?.tag} of ${dataset} to be known to be current within its budget of ${ttl?.budgetMs} ms, found it so as of ${freshAsOf?.at}. \`snapflip refresh ${dataset}\`, or see runbooks/version-expired.md.`,
    { dataset, tag: active?.tag ?? null, byMs },
  )
}

async function lookAtTemporal(session: Session): Promise<Check[]> {
  const { temporal, datasets } = await session.config()
  let at = { address: temporal.address, namespace: temporal.namespace }
  try {
    at = await temporalOf(session)
    const client = await session.temporal()
    const { namespace } = client.options
    await client.workflowService.describeNamespace({ namespace })
    const checks = [good('temporal', `${at.address}, namespace ${namespace}`)]
    // An operator's call that a namespace's own key may not make: then nothing is known of them, which is no fault.
    const known = await client.connection.operatorService.listSearchAttributes({ namespace }).catch(() => null)
    const missing = SEARCH_ATTRIBUTES.filter((name) => known?.customAttributes?.[name] === undefined)
    checks.push(
      known === null
        ? good('search attributes', 'not allowed to ask; the worker says when it runs without')
        : missing.length === 0
          ? good('search attributes', SEARCH_ATTRIBUTES.join(', '))
          : bad(
              'search attributes',
              'TEMPORAL_UNREACHABLE',
              `missing: ${missing.join(', ')}`,
              `Start a worker, which registers them, or: temporal operator search-attribute create ${missing.map((name) => `--name ${name} --type Keyword`).join(' ')}`,
            ),
    )
    const { taskQueue } = temporal
    checks.push(await lookAtQueue(client, 'worker', taskQueue, 'workflow'))
    checks.push(await lookAtQueue(client, 'builds', buildsQueue(taskQueue), 'activity'))
    if (Object.values(datasets).some(({ schedule }) => schedule?.continuous !== undefined))
      checks.push(await lookAtQueue(client, 'watches', watchesQueue(taskQueue), 'activity'))
    return checks
  } catch (error) {
    return [failed('temporal', temporalFailure(error, at))]
  }
}

/** `snapflip worker` polls both queues; who routes or limits them may have left one out, and refreshes then wait without an error. */
async function lookAtQueue(
  client: TemporalClient,
  check: string,
  taskQueue: string,
  type: 'workflow' | 'activity',
): Promise<Check> {
  const workers = await workersPolling(client, taskQueue, type)
  return workers > 0
    ? good(check, `${workers} poll${workers === 1 ? 's' : ''} task queue ${taskQueue}`)
    : bad(check, 'TEMPORAL_UNREACHABLE', `none polls task queue ${taskQueue}`, 'Start one with `snapflip worker`.')
}

function failed(name: string, error: unknown): Check {
  const message = error instanceof Error ? error.message : String(error)
  return { check: name, ok: false, found: message, todo: null, code: isSnapflipError(error) ? error.code : 'INTERNAL' }
}
