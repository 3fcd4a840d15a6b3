import { expect, it, onTestFinished } from 'vitest'
import { type ScheduledOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { scheduleSchema } from '../../schemas/schedule.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { issueTicket, triggering } from '../../src/registry/ticket.ts'
import { putSchedule, removeSchedule, scheduleId, scheduleState } from '../../src/temporal/schedules.ts'
import { makeWorld, type World } from '../support/world.ts'

const SCHEMA = `create table items (id integer primary key, n integer not null);
  insert into items select g, g from generate_series(1, 10) g`
const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }

/** As the schedule starts it: under an id with the time in it. */
function scheduled(world: World, at: string, ticket?: string): Promise<ScheduledOutcome> {
  return world.client.workflow.execute('scheduledRefresh', {
    workflowId: `${WORKFLOW_ID.scheduled(world.dataset)}-${at}`,
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset: world.dataset, ticket }],
  }) as Promise<ScheduledOutcome>
}

/** A worker whose builds begin once the gate is open. */
async function waitingBuilder(world: World) {
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
  return { arrived, gate }
}

it('a scheduled run beside an open refresh is skipped, and the refresh goes on', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes } })
  const { arrived, gate } = await waitingBuilder(world)
  const refresh = world.refresh()
  await arrived.promise
  expect(await scheduled(world, '2026-05-18T02:00:00Z')).toEqual({
    status: 'SKIPPED',
    tag: null,
    summary: expect.stringContaining('running already'),
  })
  // A person triggered one: theirs, and over with it.
  const ticket = await issueTicket(world.pool, triggering(world.dataset))
  expect(await scheduled(world, '2026-05-18T02:30:00Z', ticket)).toMatchObject({ status: 'SKIPPED' })
  const [{ me } = { me: '' }] = (await world.pool.query<{ me: string }>('select session_user as me')).rows
  const skips = async () =>
    (
      await world.pool.query<{ actor: string; reason: string }>(
        `select actor, detail ->> 'reason' as reason from snapflip.history where kind = 'refresh.skipped' order by seq`,
      )
    ).rows
  expect((await skips()).map(({ actor }) => actor)).toEqual([expect.stringMatching(/^temporal:/), me])
  const unused = await world.pool.query('select from snapflip.tickets where used_by is null')
  expect(unused.rowCount).toBe(0)
  gate.resolve()
  expect(await refresh).toMatchObject({ status: 'FLIPPED' })
  expect(await scheduled(world, '2026-05-18T03:00:00Z')).toMatchObject({ status: 'NOTHING_NEW' })
  await world.hold('a look')
  const { status, summary } = await scheduled(world, '2026-05-18T04:00:00Z')
  expect(status).toBe('SKIPPED')
  expect((await skips()).map(({ reason }) => reason)).toEqual([
    expect.stringContaining('running already'),
    expect.stringContaining('running already'),
    summary,
  ])
})

it('a scheduled run whose refresh fails has failed', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes } })
  await world.worker()
  await world.pool.query('drop table items')
  const failure = await scheduled(world, '2026-05-18T02:00:00Z').catch((error: unknown) => error)
  expect(failureCode(failure)).toBe('DEFINITION_INVALID')
})

it('a scheduled refresh that fails is tried again as declared, each time as a refresh of its own; then those are told who shall be', async () => {
  const retries = { attempts: 2, initialMs: 1_000, codes: ['PRIVILEGE_MISSING'], tell: ['night'] }
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes, retries } })
  const sink = { kind: 'webhook' as const, url: 'https://alerts.example.com', secretEnv: 'NOT_SET', allowHosts: [] }
  Object.assign(world.config.alerts, { sinks: { day: sink, night: sink } })
  let failing = 3
  let unanswered = 0
  await world.worker((deps) => ({
    ...deps,
    // Of what was refreshed since a run was due it never tells.
    pool: Object.assign(Object.create(deps.pool), {
      query: async (sql: string, values?: unknown[]) => {
        if (!sql.includes('opened_at >=')) return deps.pool.query(sql, values)
        unanswered++
        throw new SnapflipError('POSTGRES_UNREACHABLE', 'a test')
      },
    }),
    builder: async () => {
      if (failing-- > 0) throw new SnapflipError('PRIVILEGE_MISSING', 'a test')
      return deps.builder()
    },
  }))
  const rows = async (sql: string) => (await world.pool.query(sql)).rows
  const failure = scheduled(world, '2026-05-18T02:00:00Z').catch((error: unknown) => error)
  await waitUntil('the first attempt to fail', async () =>
    (await rows(`select from snapflip.refresh_runs where status = 'FAILED'`)).length > 0 ? true : undefined,
  )
  // Another comes due before the second: they would try again in each other's way.
  const between = await scheduled(world, '2026-05-18T02:01:00Z')
  expect(between).toMatchObject({
    status: 'SKIPPED',
    summary: expect.stringContaining('waits to begin or to be tried'),
  })
  expect(
    await rows(`select actor, detail ->> 'reason' as reason from snapflip.history where kind = 'refresh.skipped'`),
  ).toEqual([
    { actor: `temporal:${WORKFLOW_ID.scheduled(world.dataset)}-2026-05-18T02:01:00Z`, reason: between.summary },
  ])
  expect(failureCode(await failure)).toBe('PRIVILEGE_MISSING')
  expect(await rows('select status from snapflip.refresh_runs')).toEqual([{ status: 'FAILED' }, { status: 'FAILED' }])
  expect(
    await rows('select kind, summary, sink from snapflip.alerts join snapflip.alert_deliveries on alert = id'),
  ).toEqual([{ kind: 'REFRESH_FAILING', sink: 'night', summary: expect.stringContaining('2 attempts are used up') }])

  // The third failure, of a run that begins late, is followed by an attempt that works. Nobody is told.
  const late = await world.client.workflow.execute('scheduledRun', {
    workflowId: WORKFLOW_ID.scheduledRun(world.dataset),
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset: world.dataset, by: 'a schedule', dueAt: new Date(Date.now() - 60_000).toISOString() }],
  })
  expect(late).toMatchObject({ status: 'FLIPPED' })
  expect(unanswered).toBeGreaterThan(0)
  expect(await rows('select times from snapflip.alerts')).toEqual([{ times: 1 }])
  // A person's own is not tried again behind their back.
  failing = 1
  expect(failureCode(await world.refreshFailure())).toBe('PRIVILEGE_MISSING')
  expect(failing).toBe(0)
})

it('of the runs that come due while one is at work, or during an outage, one refreshes; each other is reported as skipped', async () => {
  const declared = scheduleSchema.parse({ everyMs: 1_000 })
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes, schedule: declared } })
  const { client, dataset, pool } = world
  const { arrived, gate } = await waitingBuilder(world)
  const schedule = client.schedule.getHandle(scheduleId(dataset))
  const skips = async () =>
    (
      await pool.query<{ reason: string }>(
        `select detail ->> 'reason' as reason from snapflip.history where kind = 'refresh.skipped' order by seq`,
      )
    ).rows
  const runs = async () => (await scheduleState(client, dataset))?.last ?? []
  const ended = (count: number) =>
    waitUntil(`${count} runs to end`, async () => {
      const { numActionsTaken } = (await schedule.describe()).info
      const isOver = numActionsTaken >= count && (await runs()).every(({ status }) => status !== null)
      return isOver ? numActionsTaken : undefined
    })

  await putSchedule(client, { dataset, schedule: declared, taskQueue: world.config.temporal.taskQueue })
  onTestFinished(() => removeSchedule(client, dataset))
  await arrived.promise
  await waitUntil('two to be skipped', async () => ((await skips()).length >= 2 ? true : undefined))
  await schedule.pause()
  gate.resolve()
  const before = await ended(3)
  expect(await skips()).toHaveLength(before - 1)
  expect((await skips())[0]).toEqual({ reason: expect.stringContaining('running already') })
  const refreshes = async () => (await pool.query('select status from snapflip.refresh_runs order by opened_at')).rows
  expect(await refreshes()).toEqual([{ status: 'FLIPPED' }])

  // What Temporal makes up for after an outage: due at their times, and begun now.
  await pool.query("update snapflip.refresh_runs set opened_at = opened_at - interval '1 hour'")
  await pool.query('update items set n = n + 1')
  const end = new Date()
  await schedule.backfill({ start: new Date(end.getTime() - 8_000), end, overlap: 'ALLOW_ALL' })
  const burst = await ended(before + 8)
  // Those that Temporal begins a little later, when the first is over.
  await schedule.backfill({ start: new Date(end.getTime() - 4_000), end, overlap: 'ALLOW_ALL' })
  const after = await ended(burst + 4)
  expect(await refreshes()).toEqual([{ status: 'FLIPPED' }, { status: 'FLIPPED' }])
  expect(await skips()).toHaveLength(after - 2)
  expect(await skips()).toContainEqual({ reason: expect.stringContaining('has made up for it') })
  expect((await runs()).filter(({ status }) => status === 'SKIPPED').length).toBeGreaterThan(1)
}, 120_000)
