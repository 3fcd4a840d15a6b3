import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Context } from '@temporalio/activity'
import { expect, it } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { issueTicket, triggering } from '../../src/registry/ticket.ts'
import {
  continuousState,
  pauseContinuous,
  putContinuous,
  triggerContinuous,
  unpauseContinuous,
} from '../../src/temporal/continuous.ts'
import { damagingFlips } from '../support/damage.ts'
import { around, makeWorld, quiet, type World, type WorldOptions } from '../support/world.ts'
import type { Recorded } from './recorded.ts'

/** Run by scripts/record-histories: real refreshes, whose histories replay.test.ts replays. */
const folder = process.env.HISTORIES as string

const SHOP: WorldOptions = {
  schema: `create table products (id integer primary key, category text not null, price integer not null);
    insert into products select n, 'c' || n % 7, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

quiet()

it('records the histories', async () => {
  const refreshOf = (world: World) => WORKFLOW_ID.refresh(world.dataset)

  const shop = await makeWorld(SHOP)
  const damage = damagingFlips(shop)
  await shop.worker(around(damage))
  await shop.refresh()
  await record(shop, 'success', refreshOf(shop))
  await shop.pool.query('update products set price = 1 where id <= 20')
  damage.armed = true
  expect(await shop.refresh()).toMatchObject({ status: 'ROLLED_BACK' })
  await record(shop, 'compensation', refreshOf(shop))
  await record(shop, 'compensation-rollback', WORKFLOW_ID.rollback(shop.dataset))

  const ambiguous = await makeWorld({
    ...SHOP,
    dataset: { indexes: { byCategory: { from: 'public.products', key: 'category', value: 'id' } } },
  })
  await ambiguous.worker()
  expect(await ambiguous.refresh()).toMatchObject({ status: 'REJECTED' })
  await record(ambiguous, 'refusal', refreshOf(ambiguous))

  const cancelled = await makeWorld(SHOP)
  await cancelled.worker(
    around({
      run: async (operation, call) => {
        if (operation === 'writer.finish') {
          await cancelled.client.workflow.getHandle(refreshOf(cancelled)).cancel()
          await Context.current().cancelled.catch(() => undefined)
        }
        return call()
      },
    }),
  )
  await cancelled.refreshFailure()
  await record(cancelled, 'cancellation', refreshOf(cancelled))
})

it('records what begins by itself', async () => {
  const { schema, dataset } = SHOP
  const retries = { attempts: 2, initialMs: 10, codes: ['PRIVILEGE_MISSING' as const] }
  const waiting = await makeWorld({ schema, dataset: { ...dataset, retries } })
  let planned = 0
  let failing = 1
  await waiting.worker(
    (deps) => ({
      ...deps,
      builder: async () => {
        if (planned > 2 && failing-- > 0) throw new SnapflipError('PRIVILEGE_MISSING', 'a test')
        return deps.builder()
      },
    }),
    {
      decorateActivities: (activities) => ({
        ...activities,
        plan: async (request) => (planned++ === 0 ? { waitMs: 50, summary: 'waits' } : activities.plan(request)),
      }),
    },
  )
  expect(await waiting.refresh()).toMatchObject({ status: 'FLIPPED' })
  await record(waiting, 'window-wait', WORKFLOW_ID.refresh(waiting.dataset))

  // Fails once.
  const scheduled = `${WORKFLOW_ID.scheduled(waiting.dataset)}-2026-05-18T02:00:00Z`
  const run = await waiting.client.workflow.execute('scheduledRefresh', {
    workflowId: scheduled,
    taskQueue: waiting.config.temporal.taskQueue,
    args: [{ dataset: waiting.dataset }],
  })
  expect(run).toMatchObject({ status: 'NOTHING_NEW' })
  expect((await waiting.pool.query(`select from snapflip.refresh_runs where status = 'FAILED'`)).rowCount).toBe(1)
  await record(waiting, 'scheduled-refresh', scheduled)
  await record(waiting, 'scheduled-run', WORKFLOW_ID.scheduledRun(waiting.dataset))

  const continuous = await makeWorld({
    schema,
    dataset: { ...dataset, schedule: { continuous: { atMostEveryMs: 200 } } },
  })
  const { client, dataset: name, config, pool } = continuous
  await continuous.worker()
  const { taskQueue } = config.temporal
  await putContinuous(client, { dataset: name, atMostEveryMs: 200, taskQueue })
  const runs = async () => (await continuousState(client, name))?.last ?? []
  const ran = (count: number) =>
    waitUntil(`run ${count}`, async () => ((await runs()).length >= count ? true : undefined))
  await ran(1)
  await pool.query('update products set price = 2 where id = 1')
  await ran(2)
  await pauseContinuous(client, name, 'a look')
  const ticket = await issueTicket(pool, triggering(name))
  await triggerContinuous(client, { dataset: name, ticket, taskQueue })
  await ran(3)
  await unpauseContinuous(client, name)
  await waitUntil('it to look again', async () =>
    (await continuousState(client, name))?.doing?.includes('looking') ? true : undefined,
  )
  await client.workflow.getHandle(WORKFLOW_ID.continuous(name)).cancel()
  await client.workflow
    .getHandle(WORKFLOW_ID.continuous(name))
    .result()
    .catch(() => undefined)
  await record(continuous, 'continuous', WORKFLOW_ID.continuous(name))
})

/** Without what tells of the machine it was recorded on; replaying looks at none of that. */
async function record(world: World, name: Recorded, workflowId: string): Promise<void> {
  const history = await world.client.workflow.getHandle(workflowId).fetchHistory()
  const plain = JSON.parse(JSON.stringify(history)) as unknown
  await writeFile(join(folder, `${name}.json`), `${JSON.stringify(withoutPlace(plain, world), null, 1)}\n`)
}

// Not sdkMetadata: it holds the flags that make a replay compare the kinds of activities.
const PLACES = new Set(['identity', 'stackTrace', 'workerVersion', 'taskQueue', 'taskQueueName'])

function withoutPlace(value: unknown, world: World): unknown {
  if (Array.isArray(value)) return value.map((item) => withoutPlace(item, world))
  if (typeof value === 'string') return told(value, world)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, field]): [string, unknown][] => {
      if (PLACES.has(name)) return name === 'taskQueue' ? [[name, { name: 'snapflip' }]] : []
      if (name === 'data' && typeof field === 'string') {
        const text = told(Buffer.from(field, 'base64').toString(), world)
        return [[name, Buffer.from(text).toString('base64')]]
      }
      return [[name, withoutPlace(field, world)]]
    }),
  )
}

function told(text: string, world: World): string {
  return text
    .replaceAll(world.dataset, 'shop')
    .replaceAll(world.config.temporal.taskQueue, 'snapflip')
    .replaceAll(/(file:)?(\/[\w.-]+)*\/snapflip-test-[\w-]+/g, 'file:/srv')
    .replaceAll(/temporal:\d+@[\w.-]+/g, 'temporal:1@worker')
}
