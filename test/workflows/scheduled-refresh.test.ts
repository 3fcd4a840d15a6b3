import { expect, it } from 'vitest'
import { type ScheduledOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { makeWorld, type World } from '../support/world.ts'

const SCHEMA = `create table items (id integer primary key, n integer not null);
  insert into items select g, g from generate_series(1, 10) g`
const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }

/** As the schedule starts it: under an id with the time in it. */
function scheduled(world: World, at: string): Promise<ScheduledOutcome> {
  return world.client.workflow.execute('scheduledRefresh', {
    workflowId: `${WORKFLOW_ID.scheduled(world.dataset)}-${at}`,
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset: world.dataset }],
  }) as Promise<ScheduledOutcome>
}

it('a scheduled run beside an open refresh is skipped, and the refresh goes on', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes } })
  const arrived = Promise.withResolvers<void>()
  const gate = Promise.withResolvers<void>()
  await world.worker((deps) => ({
    ...deps,
    builder: async () => {
      arrived.resolve()
      await gate.promise
      return deps.builder()
    },
  }))
  const refresh = world.refresh()
  await arrived.promise
  expect(await scheduled(world, '2026-05-18T02:00:00Z')).toEqual({
    status: 'SKIPPED',
    tag: null,
    summary: expect.stringContaining('running already'),
  })
  gate.resolve()
  expect(await refresh).toMatchObject({ status: 'FLIPPED' })
  expect(await scheduled(world, '2026-05-18T03:00:00Z')).toMatchObject({ status: 'NOTHING_NEW' })
  await world.hold('a look')
  const { status, summary } = await scheduled(world, '2026-05-18T04:00:00Z')
  expect(status).toBe('SKIPPED')
  const told = await world.pool.query<{ reason: string }>(
    `select detail ->> 'reason' as reason from snapflip.history where kind = 'refresh.skipped' order by seq`,
  )
  expect(told.rows).toEqual([{ reason: expect.stringContaining('running already') }, { reason: summary }])
})

it('a scheduled run whose refresh fails has failed', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes } })
  await world.worker()
  await world.pool.query('drop table items')
  const failure = await scheduled(world, '2026-05-18T02:00:00Z').catch((error: unknown) => error)
  expect(failureCode(failure)).toBe('DEFINITION_INVALID')
})

it('a scheduled refresh that fails is tried again as declared, each time as a refresh of its own; then those are told who shall be', async () => {
  const retries = { attempts: 2, initialMs: 10, codes: ['PRIVILEGE_MISSING'], tell: ['night'] }
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes, retries } })
  const sink = { kind: 'webhook' as const, url: 'https://alerts.example.com', secretEnv: 'NOT_SET', allowHosts: [] }
  Object.assign(world.config.alerts, { sinks: { day: sink, night: sink } })
  let failing = 3
  await world.worker((deps) => ({
    ...deps,
    builder: async () => {
      if (failing-- > 0) throw new SnapflipError('PRIVILEGE_MISSING', 'a test')
      return deps.builder()
    },
  }))
  const rows = async (sql: string) => (await world.pool.query(sql)).rows
  const failure = await scheduled(world, '2026-05-18T02:00:00Z').catch((error: unknown) => error)
  expect(failureCode(failure)).toBe('PRIVILEGE_MISSING')
  expect(await rows('select status from snapflip.refreshes')).toEqual([{ status: 'FAILED' }, { status: 'FAILED' }])
  expect(
    await rows('select kind, summary, sink from snapflip.alerts join snapflip.alert_deliveries on alert = id'),
  ).toEqual([{ kind: 'REFRESH_FAILING', sink: 'night', summary: expect.stringContaining('2 attempts are used up') }])

  // The third failure is followed by an attempt that works. Nobody is told.
  expect(await scheduled(world, '2026-05-18T03:00:00Z')).toMatchObject({ status: 'FLIPPED' })
  expect(await rows('select times from snapflip.alerts')).toEqual([{ times: 1 }])
  // A person's own is not tried again behind their back.
  failing = 1
  expect(failureCode(await world.refreshFailure())).toBe('PRIVILEGE_MISSING')
  expect(failing).toBe(0)
})
