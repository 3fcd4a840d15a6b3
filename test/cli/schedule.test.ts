import { Client, Connection } from '@temporalio/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ERRORS } from '../../src/core/errors.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { type ScheduleState, scheduleId } from '../../src/temporal/schedules.ts'
import { leaveViewsOut, type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

let project: Project
let worker: ReturnType<typeof startSnapflip>

/** Daily, hours from now: nothing runs by itself while the test does. */
const later = `0 ${(new Date().getUTCHours() + 6) % 24} * * *`

async function scheduled(schedule: unknown) {
  await project.define((definition) => {
    Object.assign(definition.datasets[project.dataset] ?? {}, { schedule })
    return definition
  })
}
const state = async () =>
  json<ScheduleState & Record<string, unknown>>(await project.run(['schedule', project.dataset, '--json']))
const login = () => decodeURIComponent(new URL(project.database.url).username)
/** What the history has of pauses: kind, who, why; oldest first. */
async function pauses() {
  const entries = await historyEntries(project.database.pool, { dataset: project.dataset, kind: 'schedule' })
  return entries.map(({ kind, actor, detail }) => [kind, actor, detail.reason]).reverse()
}
/** As Temporal has it. */
async function described() {
  const { address, namespace } = project.temporal
  const connection = await Connection.connect({ address })
  try {
    return await new Client({ connection, namespace }).schedule.getHandle(scheduleId(project.dataset)).describe()
  } finally {
    await connection.close()
  }
}
/** How the newest run ended, once there are `runs` of them. */
const ended = (runs: number) =>
  waitUntil(`run ${runs} of the schedule to end`, async () => {
    const { last } = await state()
    return last.length >= runs && last[0]?.status !== null ? last[0] : undefined
  })

beforeAll(async () => {
  project = await testProject()
})
afterAll(async () => {
  await project.run(['schedule', project.dataset, '--pause', 'the test is over'])
  worker?.kill('SIGTERM')
  await worker?.ended
})

test('apply makes the schedule in Temporal, changes it and removes it; plan says so before', async () => {
  await scheduled({ cron: later, timezone: 'UTC', jitterMs: 0 })
  expect((await project.run(['plan'])).stdout).toContain('schedule to make')
  expect((await project.run(['apply', '--yes'])).stdout).toContain('schedule made')
  const hour = (await state()).next[0]
  expect(new Date(hour ?? 0).getUTCHours()).toBe((new Date().getUTCHours() + 6) % 24)
  expect((await project.run(['plan'])).stdout).toContain('schedule as applied')

  await scheduled({ everyMs: 3_600_000 })
  expect((await project.run(['plan'])).stdout).toContain('schedule to change')
  expect((await project.run(['apply', '--yes'])).stdout).toContain('schedule changed')
  expect(Date.parse(String((await state()).next[0])) - Date.now()).toBeLessThanOrEqual(3_600_000)

  await scheduled(undefined)
  expect((await project.run(['apply', '--yes'])).stdout).toContain('schedule removed')
  const none = await project.run(['schedule', project.dataset])
  expect(none).toMatchObject({ code: 5, stderr: expect.stringContaining('Give the dataset a `schedule`') })
})

test('a schedule has the time zone, the jitter and the catch-up that are declared', async () => {
  await scheduled({ cron: '0 12 * * *', timezone: 'Asia/Kathmandu', jitterMs: 5_000, catchUpMs: 90_000 })
  await project.run(['apply', '--yes'])
  expect(await described()).toMatchObject({
    spec: { timezone: 'Asia/Kathmandu', jitter: 5_000 },
    policies: { catchupWindow: 90_000 },
  })
  // Noon, where clocks are 5:45 ahead.
  expect((await state()).next[0]).toMatch(/T06:15:0\d/)
  await scheduled(undefined)
  await project.run(['apply', '--yes'])
})

test('apply starts continuous mode, in the place of a schedule, and ends it', async () => {
  await scheduled({ continuous: {} })
  expect((await project.run(['apply', '--yes'])).stdout).toContain('schedule made')
  // Without a worker nobody can say more.
  const paused = ['schedule', project.dataset, '--pause', 'a look', '--unpause', 'looked', '--json']
  expect(json(await project.run(paused))).toMatchObject({ next: [], doing: 'no worker answers' })
  expect(await pauses()).toEqual([
    ['schedule.paused', login(), 'a look'],
    ['schedule.unpaused', login(), 'looked'],
  ])
  await scheduled({ cron: later })
  expect((await project.run(['apply', '--yes'])).stdout).toContain('schedule changed')
  expect(await state()).not.toHaveProperty('doing')
  // Edited since, and not applied: what was applied is what runs.
  await scheduled({ continuous: {} })
  expect(await state()).not.toHaveProperty('doing')
  await scheduled(undefined)
  await project.run(['apply', '--yes'])
})

test('a scheduled run refreshes; on hold, or beside another, it is skipped, and says so; a pause survives another apply', async () => {
  await scheduled({ cron: later })
  await project.run(['apply', '--yes'])
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  await project.run(['schedule', project.dataset, '--trigger'])
  const first = await ended(1)
  expect(first).toMatchObject({ status: 'FLIPPED' })
  const refreshes = await project.database.pool.query('select reason, requested_by from snapflip.refresh_runs')
  // Whoever triggered it.
  expect(refreshes.rows).toEqual([{ reason: `scheduled (${first.workflowId})`, requested_by: login() }])

  await project.run(['hold', project.dataset, '--reason', 'a look'])
  const told = await project.run(['schedule', project.dataset, '--trigger'])
  expect(told.stdout).toMatch(/triggered +SKIPPED: .*on hold/)
  expect(await ended(2)).toMatchObject({ status: 'SKIPPED', summary: expect.stringContaining('on hold') })
  await project.run(['resume', project.dataset, '--reason', 'looked'])

  // While one is at work.
  const client = await project.database.pool.connect()
  try {
    await client.query('begin; lock table public.products in access exclusive mode')
    await project.run(['schedule', project.dataset, '--trigger'])
    const beside = await project.run(['schedule', project.dataset, '--trigger'])
    expect(beside.stdout).toMatch(/triggered +SKIPPED: a refresh of \S+ was running already/)
  } finally {
    await client.query('rollback')
    client.release()
  }
  await ended(4)

  await project.run(['schedule', project.dataset, '--pause', 'supplier is migrating'])
  await scheduled({ cron: later, jitterMs: 1_000 })
  await project.run(['apply', '--yes'])
  expect((await state()).paused).toMatch(/: supplier is migrating$/)
  expect((await project.run(['schedule', project.dataset])).stdout).toContain('not while it is paused')
  await project.run(['schedule', project.dataset, '--unpause', 'migrated'])
  expect((await state()).paused).toBeNull()
  expect((await pauses()).slice(-2)).toEqual([
    ['schedule.paused', login(), 'supplier is migrating'],
    ['schedule.unpaused', login(), 'migrated'],
  ])
}, 180_000)

test('who may not refresh or hold a dataset triggers and pauses no schedule either', async () => {
  const { pool } = project.database
  const [me] = (await pool.query<{ name: string }>('select session_user as name')).rows
  const admin = `admin_of_${project.dataset}`
  await pool.query(`create role ${admin} login`)
  await project.define((definition) => {
    const roles = { viewer: [me?.name ?? ''], admin: [admin] }
    Object.assign(definition.datasets[project.dataset] ?? {}, { schedule: { cron: later }, roles })
    return definition
  })
  await project.run(['apply', '--yes'])
  const refused = { code: ERRORS.FORBIDDEN.exit, stderr: expect.stringContaining('FORBIDDEN') }
  expect(await project.run(['schedule', project.dataset, '--trigger'])).toMatchObject(refused)
  expect(await project.run(['schedule', project.dataset, '--pause', 'a look'])).toMatchObject(refused)
  expect(await state()).toMatchObject({ paused: null })
  // Nor bring snapflip's tables up to date by an `apply` that they may not make.
  await leaveViewsOut(project)
  expect(await project.run(['apply', '--yes'])).toMatchObject(refused)
  expect((await project.run(['migrate', '--dry-run'])).stdout).toContain('To run: 0013_views.')
  const { rows } = await pool.query(
    `select detail ->> 'action' as action from snapflip.history where kind = 'action.refused'`,
  )
  expect(rows).toEqual([{ action: 'refresh' }, { action: 'hold' }, { action: 'apply' }])
  await pool.query(`drop role ${admin}`)
})
