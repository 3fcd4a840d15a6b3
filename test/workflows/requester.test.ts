import { randomUUID } from 'node:crypto'
import { MockActivityEnvironment } from '@temporalio/testing'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { flipBack } from '../../activities/flip-back.ts'
import { plan } from '../../activities/plan.ts'
import { requesterOf } from '../../activities/requester.ts'
import { type DatasetDefinition, datasetSchema } from '../../schemas/config.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import { release } from '../../src/registry/release.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { issueTicket, triggering } from '../../src/registry/ticket.ts'
import { scheduleId } from '../../src/temporal/schedules.ts'
import type { Starter } from '../../src/temporal/starter.ts'
import { aRefresh, DATASET, definition, flipped, move } from '../registry/shop.ts'
import { type TestDatabase, testDatabase } from '../support/services.ts'

let database: TestDatabase
let login: string
beforeEach(async () => {
  database = await testDatabase()
  login = decodeURIComponent(new URL(database.url).username)
  await declare({ cron: '0 2 * * *' })
})
afterEach(() => database.drop())

let declared: DatasetDefinition
async function declare(schedule: object | undefined) {
  const roles = { admin: [login] }
  declared = datasetSchema.parse({ ...definition(), roles, ...(schedule && { schedule }) })
  await applyDefinition(database.pool, { dataset: DATASET, definition: declared })
}

/** Who asks, where Temporal says this of the start; `run` is the workflow's own. */
function asks(
  action: 'refresh' | 'rollback',
  { parents = [], schedule = null, ticket }: Partial<Starter> & { ticket?: string },
  run = 'run',
) {
  const deps = {
    pool: database.pool,
    // What is declared is what was applied, whatever the file says.
    config: { datasets: { [DATASET]: datasetSchema.parse(definition()) } },
    starter: async () => ({ identity: 'mal', parents, schedule }),
    log: { warn() {} },
  } as unknown as Deps
  return requesterOf(deps, { action, request: { dataset: DATASET, ticket }, workflowId: 'w', runId: run })
}

const schedule = scheduleId(DATASET)
const scheduled = { workflowId: `${WORKFLOW_ID.scheduled(DATASET)}-2026-05-18T02:00:00Z`, runId: 'scheduled' }
const continuous = { workflowId: WORKFLOW_ID.continuous(DATASET), runId: 'continuous' }
const nobody = { actor: `temporal:${scheduled.workflowId}`, via: 'workflow' }
const forbidden = { code: 'FORBIDDEN', details: { actor: 'temporal:mal' } }

it('a run that its schedule started nobody asks for; one that a person starts under its name is theirs', async () => {
  expect(await asks('refresh', { parents: [scheduled], schedule })).toEqual(nobody)
  for (const mark of [null, 'nightly'])
    await expect(asks('refresh', { parents: [scheduled], schedule: mark })).rejects.toMatchObject(forbidden)
  await expect(asks('refresh', { parents: [continuous] })).rejects.toMatchObject(forbidden)
  await declare({ continuous: {} })
  expect(await asks('refresh', { parents: [continuous] })).toMatchObject({ via: 'workflow' })
  await expect(asks('refresh', { parents: [scheduled], schedule })).rejects.toMatchObject(forbidden)
  await declare(undefined)
  await expect(asks('refresh', { parents: [scheduled], schedule })).rejects.toMatchObject(forbidden)
})

it('a rollback that follows a refresh which was allowed nobody asks for; what a person starts to have it made is theirs', async () => {
  const refresh = aRefresh()
  const bake = { workflowId: WORKFLOW_ID.bake(DATASET, '0196e1f0-0000-7000-8000-000000000001'), runId: 'bake' }
  await expect(asks('rollback', { parents: [bake] })).rejects.toMatchObject(forbidden)
  await expect(asks('rollback', { parents: [bake, refresh] })).rejects.toMatchObject(forbidden)
  await openRefresh(database.pool, refresh)
  expect(await asks('rollback', { parents: [bake, refresh] })).toMatchObject({ via: 'workflow' })
  expect(await asks('rollback', { parents: [refresh] })).toMatchObject({ via: 'workflow' })
})

it('a rollback that follows a flip which was allowed nobody asks for', async () => {
  const flip = { workflowId: WORKFLOW_ID.flipTo(DATASET), runId: 'flip' }
  const bake = { workflowId: WORKFLOW_ID.bake(DATASET, '0196e1f0-0000-7000-8000-000000000001'), runId: 'bake' }
  const pool = database.pool
  const first = await flipped(pool, null)
  const second = await flipped(pool, first)
  const flipId = randomUUID()
  await move(pool, { kind: 'rollback', from: second, to: first })
  await release(pool, { dataset: DATASET, tag: second, by: login, reason: 'it was the reader' })
  await expect(asks('rollback', { parents: [flip] })).rejects.toMatchObject(forbidden)
  const intent = { flipId, dataset: DATASET, kind: 'flip', from: first, to: second, reason: null, actor: null } as const
  await intendFlip(pool, { ...intent, runId: flip.runId })
  await settleFlip(pool, { flipId, outcome: 'confirmed', detail: {} })
  for (const parents of [[flip], [bake, flip]])
    expect(await asks('rollback', { parents })).toMatchObject({ via: 'workflow' })
  await expect(asks('rollback', { parents: [{ ...flip, runId: 'another' }] })).rejects.toMatchObject(forbidden)
})

it('a run that a person triggered stays theirs, however long it waits and however often it tries, and is the only one', async () => {
  const me = { actor: login, via: 'login' }
  const later = (hours: number) =>
    database.pool.query(`update snapflip.tickets set issued_at = issued_at - interval '${hours} hours'`)
  const ticket = await issueTicket(database.pool, triggering(DATASET))
  const newer = await issueTicket(database.pool, triggering(DATASET))
  const from = { parents: [{ ...scheduled, runId: 'triggered' }], ticket }
  // It waited for a worker; and what its schedule starts meanwhile is nobody's.
  await later(23)
  expect(await asks('refresh', { parents: [scheduled], schedule })).toEqual(nobody)
  expect(await asks('refresh', from, 'first')).toEqual(me)
  await later(48)
  for (const run of ['first', 'second']) expect(await asks('refresh', from, run)).toEqual(me)

  // Seen by another, used for another run, or for something else.
  await expect(asks('refresh', { ...from, parents: [scheduled], schedule })).rejects.toMatchObject(forbidden)
  await expect(asks('refresh', { ticket }, 'triggered')).rejects.toMatchObject(forbidden)
  await expect(asks('rollback', from)).rejects.toMatchObject(forbidden)
  // Older than a day before its first run.
  await expect(asks('refresh', { parents: [scheduled], schedule, ticket: newer })).rejects.toMatchObject(forbidden)

  await declare({ continuous: {} })
  const again = await issueTicket(database.pool, triggering(DATASET))
  expect(await asks('refresh', { parents: [continuous] })).toMatchObject({ via: 'workflow' })
  expect(await asks('refresh', { parents: [continuous], ticket: again }, 'third')).toEqual(me)
  expect(await asks('refresh', { parents: [continuous] })).toMatchObject({ via: 'workflow' })
  const afterwards = { ...continuous, runId: 'as a new run' }
  await expect(asks('refresh', { parents: [afterwards], ticket: again })).rejects.toMatchObject(forbidden)
})

it.each([
  ['a rollback whose store does not answer', flipBack, 'rollback', 'STORE_UNREACHABLE'],
  ['a refresh under another definition than the one that was applied', plan, 'refresh', 'NOT_APPLIED'],
] as const)('%s uses up its ticket all the same', async (_title, step, action, code) => {
  const request = { dataset: DATASET, reason: 'prices are off' }
  const ticket = await issueTicket(database.pool, { dataset: DATASET, action, request })
  const other = datasetSchema.parse({ ...declared, keep: 99 })
  const deps = {
    pool: database.pool,
    config: { datasets: { [DATASET]: other } },
    starter: async () => ({ identity: 'mal', parents: [], schedule: null }),
    store: () => Promise.reject(new SnapflipError('STORE_UNREACHABLE', 'a test')),
  } as unknown as Deps
  const asked = { request: { ...request, ticket }, workflowId: WORKFLOW_ID[action](DATASET), runId: 'run' }
  const environment = new MockActivityEnvironment()
  const made = environment.run(step(deps) as (of: typeof asked) => Promise<unknown>, {
    ...asked,
    flipId: 'f',
    refreshId: 'r',
  })
  expect(failureCode(await made.catch((error: unknown) => error))).toBe(code)
  expect((await database.pool.query('select used_by from snapflip.tickets')).rows).toEqual([{ used_by: 'run' }])
})
