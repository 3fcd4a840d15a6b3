import { expect, it } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { openRefreshOf } from '../../src/registry/open-refresh-of.ts'
import { issueTicket, triggering } from '../../src/registry/ticket.ts'
import {
  continuousState,
  pauseContinuous,
  putContinuous,
  removeContinuous,
  triggerContinuous,
  unpauseContinuous,
} from '../../src/temporal/continuous.ts'
import { makeWorld } from '../support/world.ts'

const SCHEMA = `create table items (id integer primary key, n integer not null);
  insert into items select g, g from generate_series(1, 100) g`
const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }

it('continuous mode refreshes as soon as something is new: not while it is paused or on hold, and with another worker too', async () => {
  const world = await makeWorld({
    schema: SCHEMA,
    dataset: {
      indexes,
      schedule: { continuous: { atMostEveryMs: 200 } },
      gates: { drift: { everyMs: 3_600_000 } },
    },
  })
  const { client, dataset } = world
  const { taskQueue } = world.config.temporal
  const worker = await world.worker()
  await putContinuous(client, { dataset, atMostEveryMs: 200, taskQueue })
  const state = () => continuousState(client, dataset)
  const doing = (what: string) =>
    waitUntil(`it to be ${what}`, async () => ((await state())?.doing?.includes(what) ? true : undefined))
  const served = (n: number) =>
    waitUntil(`${n} to be served`, async () => {
      const reader = await world.reader()
      const found = await reader.get('items', '1').catch(() => undefined)
      await reader.close()
      return found === n ? true : undefined
    })
  const write = (n: number) => world.pool.query(`update items set n = ${n} where id = 1`)

  // The first version needs no change.
  await served(1)
  await write(10)
  await served(10)

  await doing('looking for something new')
  await pauseContinuous(client, dataset, 'a migration')
  await doing('paused')
  await write(11)
  expect(await state()).toMatchObject({ paused: 'a migration', doing: 'paused' })
  await unpauseContinuous(client, dataset)
  await served(11)

  await world.hold('a look')
  await doing('on hold by test: a look')
  await write(12)
  await world.resume()
  await served(12)

  // Waiting writes no events: what there was to do is what there are.
  const { events } = await client.workflow.getHandle(WORKFLOW_ID.continuous(dataset)).fetchHistory()
  expect(events?.length).toBeLessThan(200)
  // Nor does it rest when a refresh took longer than it is to rest: the server would make a second of the millisecond.
  const rests = (events ?? []).flatMap(({ timerStartedEventAttributes: timer }) => timer?.startToFireTimeout ?? [])
  expect(rests.filter(({ seconds, nanos }) => Number(seconds) === 0 && Number(nanos) <= 1e6)).toEqual([])

  worker.shutdown()
  await worker.run
  await write(13)
  const manual = Promise.withResolvers<void>()
  let gate: Promise<void> | undefined
  await world.worker((deps) => ({
    ...deps,
    builder: async () => {
      if (gate !== undefined) {
        manual.resolve()
        await gate
      }
      return deps.builder()
    },
  }))
  await served(13)
  expect((await state())?.last[0]).toMatchObject({ status: 'FLIPPED' })

  // Beside a refresh that somebody else has started it waits, and reports nothing.
  await doing('looking for something new')
  const release = Promise.withResolvers<void>()
  gate = release.promise
  const refresh = world.refresh()
  await manual.promise
  await write(99)
  await doing('a refresh runs')
  gate = undefined
  release.resolve()
  await refresh
  await served(99)
  const skips = await world.pool.query(`select from snapflip.history where kind = 'refresh.skipped'`)
  expect(skips.rowCount).toBe(0)

  // What a gate holds back is not tried again until the source changes.
  const held = async () =>
    (await world.pool.query(`select id from snapflip.refresh_runs where status = 'HELD'`)).rowCount ?? 0
  await world.pool.query('delete from items where id > 5')
  await waitUntil('the gate to hold it back', async () => ((await held()) === 1 ? true : undefined))
  await doing('looking for something new')
  await write(14)
  await waitUntil('the next to be held back', async () => ((await held()) > 1 ? true : undefined))
  await doing('looking for something new')
  expect(await held()).toBe(2)

  // Only the first version was compared with the source; each one after it says when that was.
  const compared = await world.pool.query(
    `select count(*) filter (where actual ? 'compared')::integer as by_itself, count(distinct actual ->> 'comparedAt')::integer as told
       from snapflip.gate_verdicts where gate = 'drift'`,
  )
  expect(compared.rows).toEqual([{ by_itself: 1, told: 1 }])

  await removeContinuous(client, dataset)
  expect(await state()).toBeNull()
}, 180_000)

it('a new run of continuous mode goes on where the one before stopped; what a person triggers is theirs in each attempt, and once', async () => {
  const world = await makeWorld({
    schema: SCHEMA,
    dataset: {
      indexes,
      schedule: { continuous: { atMostEveryMs: 200 } },
      retries: { attempts: 2, initialMs: 10, codes: ['PRIVILEGE_MISSING'] },
    },
  })
  const { client, dataset, pool } = world
  let failing = 1
  let busy: Promise<void> | undefined
  const worker = await world.worker((deps) => ({
    ...deps,
    builder: async () => {
      if (failing-- > 0) throw new SnapflipError('PRIVILEGE_MISSING', 'a test')
      await busy
      return deps.builder()
    },
  }))
  const runs = [{ at: '2026-05-18T00:00:00.000Z', status: 'FLIPPED', summary: 'before' }]
  const [before, now] = [await issueTicket(pool, triggering(dataset)), await issueTicket(pool, triggering(dataset))]
  await client.workflow.start('continuous', {
    workflowId: WORKFLOW_ID.continuous(dataset),
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset, atMostEveryMs: 200, paused: 'a migration', runs, look: { since: null }, tickets: [before] }],
  })
  const opened = async (count: number) =>
    waitUntil(`${count} refreshes`, async () => {
      const { rows } = await pool.query(
        'select status, requested_via as via from snapflip.refresh_runs where closed_at is not null order by opened_at',
      )
      return rows.length < count ? undefined : rows
    })
  await opened(2)
  // Somebody saw it, and it is over: that asks for nothing.
  for (const ticket of [before, now, now]) await triggerContinuous(client, { dataset, ticket, taskQueue: '' })
  await opened(3)
  await unpauseContinuous(client, dataset)
  await pool.query('update items set n = n + 1')
  expect(await opened(4)).toEqual([
    { status: 'FAILED', via: 'login' },
    { status: 'FLIPPED', via: 'login' },
    { status: 'NOTHING_NEW', via: 'login' },
    { status: 'FLIPPED', via: 'workflow' },
  ])
  await pauseContinuous(client, dataset, 'a migration')
  // Its worker answers when it has time: until then nothing is known but that it runs.
  const { paused, last } = await waitUntil('its state', async () => {
    const state = await continuousState(client, dataset)
    return state?.paused === null ? undefined : (state ?? undefined)
  })
  expect({ paused, first: last.at(-1)?.summary }).toEqual({ paused: 'a migration', first: 'before' })

  // One that waits for the builder, behind which there is room for ten.
  let goOn = () => {}
  busy = new Promise((resolve) => {
    goOn = resolve
  })
  await pool.query('update items set n = n + 1')
  const trigger = async () =>
    triggerContinuous(client, { dataset, ticket: await issueTicket(pool, triggering(dataset)), taskQueue: '' })
  await trigger()
  await waitUntil('its refresh', async () => (await openRefreshOf(pool, dataset)) ?? undefined)
  // Also where no worker answers, it is known who waits.
  worker.shutdown()
  for (let n = 0; n < 10; n++) expect(await trigger()).toMatchObject({ status: null })
  expect(await trigger()).toMatchObject({ status: 'SKIPPED', summary: expect.stringMatching(/^10 runs .* try again/) })
  await removeContinuous(client, dataset)
  await world.worker()
  // Whoever waited is told in the history.
  const skipped = await waitUntil('ten that are skipped', async () => {
    const entries = await historyEntries(pool, { dataset, kind: 'refresh.skipped' })
    return entries.length < 10 ? undefined : entries
  })
  const { rows } = await pool.query('select session_user as login')
  expect(new Set(skipped.map(({ actor }) => actor))).toEqual(new Set([rows[0]?.login]))
  goOn()
  await opened(5)
})

it.each(['wait', 'end'] as const)(
  'continuous mode and a bake: the next flip (%s) comes as declared, and refreshes begin no closer together than that',
  async (whileBaking) => {
    const atMostEveryMs = 2_500
    const world = await makeWorld({
      schema: SCHEMA,
      dataset: {
        indexes,
        schedule: { continuous: { atMostEveryMs } },
        bake: { forMs: whileBaking === 'wait' ? 3_000 : 60_000, whileBaking, drift: { sample: 0 } },
      },
    })
    const { client, dataset, pool } = world
    await world.worker()
    await putContinuous(client, { dataset, atMostEveryMs, taskQueue: world.config.temporal.taskQueue })
    const made = (count: number) =>
      waitUntil(`${count} flips`, async () => {
        const { rows } = await pool.query(
          `select bake_outcome as bake, lead(opened_at) over (order by epoch) > bake_ended_at as "isWaitedFor",
                  opened_at as "openedAt"
           from snapflip.flip_intents join snapflip.refresh_runs on refresh_runs.id = refresh_id
          where outcome = 'confirmed' order by epoch`,
        )
        return rows.length < count ? undefined : rows
      })
    await made(1)
    await pool.query('update items set n = n + 1')
    await made(2)
    await pool.query('update items set n = n + 1')
    const ended = { wait: { bake: 'baked', isWaitedFor: true }, end: { bake: 'cutShort', isWaitedFor: false } }[
      whileBaking
    ]
    const flips = await made(3)
    expect(flips.slice(0, 2)).toMatchObject([ended, ended])
    const runs = await waitUntil('what it says of them', async () => {
      const last = (await continuousState(client, dataset))?.last ?? []
      return last.length < 3 ? undefined : last.reverse()
    })
    // Each change came while the one before was at work or just after it: it waited for its time.
    for (const [n, { at }] of runs.slice(0, 2).entries())
      expect(flips[n + 1].openedAt - at.getTime()).toBeGreaterThanOrEqual(atMostEveryMs)
    // Nobody was kept from anything, nor told of a run that could not be.
    const skips = await pool.query(`select from snapflip.history where kind = 'refresh.skipped'`)
    expect(skips.rowCount).toBe(0)
    await removeContinuous(client, dataset)
  },
  180_000,
)
