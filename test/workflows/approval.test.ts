import pg from 'pg'
import { expect, it } from 'vitest'
import { type DatasetDefinition, datasetSchema } from '../../schemas/config.ts'
import { type RefreshOutcome, type RefreshProgress, type ScheduledOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { failureCode } from '../../src/core/failure.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { type ApprovalRow, approvals } from '../../src/registry/approvals.ts'
import { decideApproval } from '../../src/registry/decide-approval.ts'
import { openFlips } from '../../src/registry/flips.ts'
import { grantsSql } from '../../src/registry/grants.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { issueTicket } from '../../src/registry/ticket.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { versions } from '../../src/registry/versions.ts'
import { uniqueName } from '../support/services.ts'
import { makeWorld, type World } from '../support/world.ts'

const SCHEMA = `create table items (id integer primary key, n integer not null);
  insert into items select g, g from generate_series(1, 2000) g`
const ESCALATES_MS = 2_000
const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }

/** As `snapflip refresh` starts it. */
async function byLogin(world: World): Promise<RefreshOutcome> {
  const request = { dataset: world.dataset, reason: 'a test' }
  const ticket = await issueTicket(world.pool, { dataset: world.dataset, action: 'refresh', request })
  return world.refresh({ reason: 'a test', ticket })
}

/** A login of its own, that may use the verbs. */
async function colleague(
  world: World,
  closers: Array<() => Promise<unknown>>,
): Promise<{ name: string; pool: pg.Pool }> {
  const name = `bo_${uniqueName()}`
  await world.pool.query(await grantsSql(world.pool, { tables: [] }))
  await world.pool.query(`create role ${name} login password 'pw' in role snapflip_operator`)
  const { database } = world.config
  const url = new URL(database as string)
  url.username = name
  url.password = 'pw'
  const pool = new pg.Pool({ connectionString: url.href })
  closers.push(
    () => pool.end(),
    () => world.pool.query(`drop role ${name}`),
  )
  return { name, pool }
}

async function waiting(world: World): Promise<ApprovalRow> {
  return waitUntil('an approval to be asked for', async () => {
    const [row] = await approvals(world.pool, { dataset: world.dataset, waiting: true })
    return row
  })
}

function say(pool: pg.Pool, { dataset, tag, digest, manifestSha256 }: ApprovalRow, decision: 'approved' | 'rejected') {
  return decideApproval(pool, { dataset, tag, digest, manifestSha256, decision, reason: 'looked at it' })
}

function wake(world: World, tag: string): Promise<unknown> {
  return world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).executeUpdate('decided', { args: [tag] })
}

it('readers get a version by the yes of another alone, for which it waits through a killed worker and a registry that is away', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes, approval: { when: 'always' } } })
  const closers: Array<() => Promise<unknown>> = []
  try {
    const { dataset, pool } = world
    const bo = await colleague(world, closers)
    const victim = await world.workerProcess()

    // Nobody could tell whether whoever approves it is another.
    expect(failureCode(await world.refreshFailure({ reason: 'from the UI' }))).toBe('FORBIDDEN')
    expect((await historyEntries(pool, { kind: 'action.refused', limit: 1 }))[0]).toMatchObject({
      actor: expect.stringMatching(/^temporal:/),
      detail: { action: 'refresh', why: 'unverified' },
    })

    const refresh = byLogin(world)
    const row = await waiting(world)
    expect(row).toMatchObject({ dataset, decision: null, why: expect.stringContaining('gates passed') })
    // A schedule's run meanwhile.
    const scheduled = (await world.client.workflow.execute('scheduledRefresh', {
      workflowId: `${WORKFLOW_ID.scheduled(dataset)}-2026-05-18T02:00:00Z`,
      taskQueue: world.config.temporal.taskQueue,
      args: [{ dataset }],
    })) as ScheduledOutcome
    expect(scheduled).toMatchObject({
      status: 'SKIPPED',
      summary: expect.stringContaining(`${row.tag} waits for somebody other than ${row.requestedBy} to approve it`),
    })
    expect((await historyEntries(pool, { kind: 'refresh.skipped' }))[0]).toMatchObject({
      actor: `temporal:${WORKFLOW_ID.scheduled(dataset)}-2026-05-18T02:00:00Z`,
      detail: { reason: scheduled.summary },
    })

    victim.signal('SIGKILL')
    await victim.end()
    let away = true
    let tried = 0
    await world.worker((deps) => ({
      ...deps,
      pool: new Proxy(deps.pool, {
        get: (target, name) => {
          const member = Reflect.get(target, name) as unknown
          if (typeof member !== 'function') return member
          return (...args: unknown[]) => {
            if (away) {
              tried += 1
              throw Object.assign(new Error('terminating connection due to administrator command'), { code: '57P01' })
            }
            return member.apply(target, args)
          }
        },
      }),
    }))
    await say(bo.pool, row, 'approved')
    await wake(world, row.tag)
    await waitUntil('the registry to be asked in vain', async () => (tried > 2 ? true : undefined))
    away = false
    expect(await refresh).toMatchObject({ status: 'FLIPPED', tag: row.tag })
    expect((await approvals(pool, { dataset }))[0]).toMatchObject({
      decidedBy: bo.name,
      usedBy: (await world.pointer()).flipId,
    })
    expect(await openFlips(pool, dataset)).toEqual([])
    await expect(wake(world, row.tag)).rejects.toThrow()

    // Asked after the canary: while it waits, no reader is on what nobody watches.
    const definition = world.config.datasets[dataset] as DatasetDefinition
    const { approval, canary } = datasetSchema.parse({
      ...definition,
      approval: { when: 'always', beforeFlip: true },
      canary: { share: 0.5, forMs: 1_000 },
    })
    Object.assign(definition, { approval, canary })
    await world.apply()
    await pool.query('update items set n = 0 where id = 1')
    const compared = byLogin(world)
    const asked = await waiting(world)
    expect(await historyEntries(pool, { kind: 'canary.begun', version: asked.tag })).toHaveLength(1)
    expect((await world.pointer()).candidate).toBeNull()
    await say(bo.pool, asked, 'approved')
    await wake(world, asked.tag)
    expect(await compared).toMatchObject({ status: 'FLIPPED', tag: asked.tag })

    // Its window closes while somebody is asked: the yes counts for the next one, after a canary of its own.
    const inHours = (ahead: number) => `${String((new Date().getUTCHours() + ahead) % 24).padStart(2, '0')}:00`
    const windows = async (open: object) => {
      const declared = { ...definition, windows: { ...open, onClose: 'keepCandidate' } }
      Object.assign(definition, { windows: datasetSchema.parse(declared).windows })
      await world.apply()
    }
    await windows({})
    await pool.query('update items set n = 0 where id = 2')
    const keeping = byLogin(world)
    const before = await waiting(world)
    await windows({ open: [{ from: inHours(2), to: inHours(3) }] })
    await say(bo.pool, before, 'approved')
    await wake(world, before.tag)
    expect(await keeping).toMatchObject({ status: 'KEPT', tag: before.tag })
    await windows({})
    expect(await byLogin(world)).toMatchObject({ status: 'FLIPPED', tag: before.tag })
    expect(await historyEntries(pool, { kind: 'canary.begun', version: before.tag })).toHaveLength(2)
    expect((await world.pointer()).candidate).toBeNull()
    await verifyHistory(pool)
  } finally {
    for (const close of closers) await close()
  }
}, 180_000)

it('what a gate holds waits for a yes, which vouches for evidence that has grown old; a no, or none in time, rejects it', async () => {
  const approval = {
    when: 'onHold' as const,
    expiresAfterMs: 60_000,
    escalate: { afterMs: ESCALATES_MS, sinks: ['night'] },
  }
  const gates = { changeVolume: { deleted: { percent: 1, atLeast: 1, verdict: 'hold' } } } as const
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes, approval, gates } })
  const sink = { kind: 'webhook' as const, url: 'https://alerts.example.com', secretEnv: 'NOT_SET', allowHosts: [] }
  Object.assign(world.config.alerts, { sinks: { day: sink, night: sink } })
  const closers: Array<() => Promise<unknown>> = []
  try {
    const { dataset, pool } = world
    const bo = await colleague(world, closers)
    await world.worker()
    // Nothing is held: nobody is asked.
    expect(await byLogin(world)).toMatchObject({ status: 'FLIPPED' })
    const active = async () => (await world.pointer()).active?.tag
    const state = async (tag: string) => (await versions(pool, dataset, { tags: [tag] }))[0]?.state
    const held = async (n: number) => {
      await pool.query('delete from items where id % 20 = $1', [n])
      const refresh = byLogin(world)
      return { refresh, row: await waiting(world) }
    }

    const first = await held(1)
    expect(await state(first.row.tag)).toBe('held')
    expect(first.row.why).toMatch(/changeVolume of items: /)
    await waitUntil('somebody to be told', async () =>
      (await historyEntries(pool, { kind: 'alert.approval_waiting', version: first.row.tag })).length > 0
        ? true
        : undefined,
    )
    // Not before its time, and only those who are declared.
    const told = await pool.query(
      `select version, sink, raised_at >= $1::timestamptz + $2 * interval '1 ms' as in_time
         from snapflip.alerts join snapflip.alert_deliveries on alert = id where kind = 'APPROVAL_WAITING'`,
      [first.row.requestedAt, ESCALATES_MS],
    )
    expect(told.rows).toEqual([{ version: first.row.tag, sink: 'night', in_time: true }])
    const progress = await world.client.workflow
      .getHandle(WORKFLOW_ID.refresh(dataset))
      .query<RefreshProgress>('progress')
    expect(progress).toMatchObject({ step: 'approval', summary: expect.stringContaining('waits for somebody other') })
    await expect(wake(world, 'v20200101-01')).rejects.toThrow()
    // The person looked for longer than evidence may be old.
    await pool.query(`update snapflip.gate_verdicts set at = at - interval '2 hours'`)
    await say(bo.pool, first.row, 'approved')
    await wake(world, first.row.tag)
    expect(await first.refresh).toMatchObject({ status: 'FLIPPED' })
    expect(await active()).toBe(first.row.tag)

    const second = await held(2)
    await say(bo.pool, second.row, 'rejected')
    await wake(world, second.row.tag)
    expect(await second.refresh).toMatchObject({
      status: 'REJECTED',
      summary: expect.stringContaining(`by ${bo.name}: looked at it`),
    })
    expect(await state(second.row.tag)).toBe('rejected')

    const third = await held(3)
    await pool.query('update snapflip.approval_requests set expires_at = clock_timestamp() where decision is null')
    await wake(world, third.row.tag)
    expect(await third.refresh).toMatchObject({ status: 'REJECTED', summary: expect.stringContaining('expired') })
    expect(await historyEntries(pool, { kind: 'approval.expired', version: third.row.tag })).toHaveLength(1)
    expect(await state(third.row.tag)).toBe('rejected')
    // Who was told of the one knows nothing of the other.
    const refusals = await pool.query(
      "select version, times from snapflip.alerts where kind = 'GATE_REFUSED' order by raised_at",
    )
    expect(refusals.rows).toEqual([second, third].map(({ row }) => ({ version: row.tag, times: 1 })))

    // Asked about again: it is the same, and nothing is built for it.
    const again = byLogin(world)
    expect(await waiting(world)).toMatchObject({ tag: third.row.tag, manifestSha256: third.row.manifestSha256 })
    await say(bo.pool, await waiting(world), 'approved')
    await wake(world, third.row.tag)
    expect(await again).toMatchObject({
      status: 'FLIPPED',
      tag: third.row.tag,
      summary: expect.stringContaining('which nobody approved in time: nothing changed since'),
    })

    // By whoever calls themselves something in Temporal: it ends held, as where nobody is asked.
    await pool.query('delete from items where id % 20 = 4')
    expect(await world.refresh()).toMatchObject({ status: 'HELD' })
    expect(await active()).toBe(third.row.tag)
    await verifyHistory(pool)
  } finally {
    for (const close of closers) await close()
  }
}, 180_000)
