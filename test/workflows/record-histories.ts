import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Context } from '@temporalio/activity'
import { expect, it } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
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
