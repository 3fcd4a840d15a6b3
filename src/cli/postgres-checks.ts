import type { Client, Pool } from 'pg'
import { resolveSource } from '../changelog/definition.ts'
import { captureFault } from '../changelog/facts.ts'
import { capturedTables, type Source } from '../changelog/source.ts'
import { SnapflipError } from '../core/errors.ts'
import { checkQueries } from '../gates/check-queries.ts'
import { requireApplied } from '../registry/current-definition.ts'
import { openFlips } from '../registry/flips.ts'
import { lackingGrants } from '../registry/lacking-grants.ts'
import { migrationsPending } from '../registry/migrate.ts'
import { server } from '../registry/server.ts'
import { strayEvents } from '../registry/stray-events.ts'
import { bad, type Check, checked, failed, good } from './check.ts'
import { lookAtWebhooks } from './gate-checks.ts'
import { sourceNames } from './grants.ts'
import type { Session } from './session.ts'

/** The server, snapflip's tables in it, and of each dataset its definition, its capture and its flips. */
export async function lookAtPostgres(session: Session): Promise<Check[]> {
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
