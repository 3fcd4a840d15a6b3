import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { requesterOf } from '../../activities/requester.ts'
import { type DatasetDefinition, datasetSchema } from '../../schemas/config.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import { issueTicket, triggering } from '../../src/registry/ticket.ts'
import { scheduleId } from '../../src/temporal/schedules.ts'
import type { Starter } from '../../src/temporal/starter.ts'
import { aRefresh, DATASET, definition } from '../registry/shop.ts'
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
function asks(action: 'refresh' | 'rollback', { parents = [], schedule = null }: Partial<Starter>, run = 'run') {
  const deps = {
    pool: database.pool,
    config: { datasets: { [DATASET]: declared } },
    starter: async () => ({ identity: 'mal', parents, schedule }),
  } as unknown as Deps
  return requesterOf(deps, { action, request: { dataset: DATASET }, workflowId: 'w', runId: run })
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

it('a run that a person triggered stays theirs, however long it waits and however often it tries', async () => {
  await issueTicket(database.pool, triggering(DATASET))
  const from = { parents: [scheduled], schedule }
  expect(await asks('refresh', from, 'first')).toEqual({ actor: login, via: 'login' })
  await database.pool.query("update snapflip.tickets set issued_at = issued_at - interval '1 hour'")
  expect(await asks('refresh', from, 'first')).toEqual({ actor: login, via: 'login' })
  expect(await asks('refresh', from, 'second')).toEqual({ actor: login, via: 'login' })
  const next = { workflowId: scheduled.workflowId, runId: 'the next' }
  expect(await asks('refresh', { parents: [next], schedule })).toEqual(nobody)

  // Of continuous mode, one run of which starts them all, only the refresh that it was triggered for.
  await declare({ continuous: {} })
  await issueTicket(database.pool, triggering(DATASET))
  expect(await asks('refresh', { parents: [continuous] }, 'third')).toEqual({ actor: login, via: 'login' })
  await database.pool.query("update snapflip.tickets set issued_at = issued_at - interval '1 hour'")
  expect(await asks('refresh', { parents: [continuous] }, 'third')).toEqual({ actor: login, via: 'login' })
  expect(await asks('refresh', { parents: [continuous] }, 'fourth')).toMatchObject({ via: 'workflow' })
})
