import { expect, it, onTestFinished } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { scheduleSchema } from '../../schemas/schedule.ts'
import { failureCode } from '../../src/core/failure.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { authorize } from '../../src/registry/authorize.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { refreshes } from '../../src/registry/refreshes.ts'
import { issueTicket } from '../../src/registry/ticket.ts'
import { putSchedule, removeSchedule, scheduleId, scheduleState } from '../../src/temporal/schedules.ts'
import { damagingFlips } from '../support/damage.ts'
import { around, makeWorld } from '../support/world.ts'

const SCHEMA = `create table items (id integer primary key, n integer not null);
  insert into items select g, g from generate_series(1, 10) g`
const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }

it('a refresh or rollback is whoever proved it with a ticket, or else an identity that the policy must let in', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes } })
  const { dataset, pool } = world
  const [me] = (await pool.query<{ name: string }>('select session_user as name')).rows
  const login = me?.name as string
  const definition = world.config.datasets[dataset]
  if (definition === undefined) throw new Error('no definition')
  definition.roles = { admin: [login] }
  const schedule = scheduleSchema.parse({ cron: '0 0 1 1 *' })
  definition.schedule = schedule
  await world.apply()
  const damage = damagingFlips(world)
  await world.worker(around(damage))
  const lastRefused = async () => (await historyEntries(pool, { kind: 'action.refused', limit: 1 }))[0]
  const ticketed = async (action: 'refresh' | 'rollback', reason: string) => {
    const request = { dataset, reason }
    await authorize(pool, { dataset, action })
    return { reason, ticket: await issueTicket(pool, { dataset, action, request }) }
  }

  // From the Temporal UI, say: its identity proves nothing, and is not in the policy.
  expect(failureCode(await world.refreshFailure({ reason: 'by hand' }))).toBe('FORBIDDEN')
  expect(await lastRefused()).toMatchObject({
    actor: expect.stringMatching(/^temporal:/),
    detail: { action: 'refresh', needed: 'operator', has: null, reason: 'by hand' },
  })
  expect(await refreshes(pool, dataset)).toEqual([])

  const proof = await ticketed('refresh', 'proven')
  expect(await world.refresh(proof)).toMatchObject({ status: 'FLIPPED' })
  expect(await refreshes(pool, dataset, 1)).toMatchObject([{ requestedBy: login, reason: 'proven' }])
  // Its ticket was seen in Temporal by somebody else; and one is made up.
  expect(failureCode(await world.refreshFailure(proof))).toBe('FORBIDDEN')
  expect(failureCode(await world.refreshFailure({ ticket: '0196e1f0-0000-7000-8000-000000000001' }))).toBe('FORBIDDEN')
  expect(world.logged).toContainEqual(expect.objectContaining({ msg: expect.stringContaining('counts as none') }))

  // A schedule's runs nobody has to allow; nor the rollback of a refresh that failed.
  damage.armed = true
  await pool.query('update items set n = n + 1')
  // Whoever starts by hand what a schedule starts is not the schedule.
  const byHand = await world.client.workflow
    .execute('scheduledRefresh', {
      workflowId: `${WORKFLOW_ID.scheduled(dataset)}-2026-05-18T02:00:00Z`,
      taskQueue: world.config.temporal.taskQueue,
      args: [{ dataset }],
    })
    .catch((error: unknown) => error)
  expect(failureCode(byHand)).toBe('FORBIDDEN')
  await putSchedule(world.client, { dataset, schedule, taskQueue: world.config.temporal.taskQueue })
  onTestFinished(() => removeSchedule(world.client, dataset))
  await world.client.schedule.getHandle(scheduleId(dataset)).trigger()
  const scheduled = await waitUntil('the scheduled run to end', async () => {
    const [run] = (await scheduleState(world.client, dataset))?.last ?? []
    return run?.status == null ? undefined : run
  })
  expect(scheduled).toMatchObject({ status: 'ROLLED_BACK' })
  damage.armed = false
  await world.resume()
  expect(await world.refresh(await ticketed('refresh', 'again'))).toMatchObject({ status: 'FLIPPED' })

  expect(failureCode(await world.rollback().catch((error: unknown) => error))).toBe('FORBIDDEN')
  expect(await lastRefused()).toMatchObject({ detail: { action: 'rollback', reason: 'a test' } })
  const back = await world.rollback(await ticketed('rollback', 'prices are off'))
  expect(back).toMatchObject({ status: 'ROLLED_BACK' })
  expect((await historyEntries(pool, { kind: 'rollback.confirmed', limit: 1 }))[0]).toMatchObject({ actor: login })
}, 180_000)
