import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Context } from '@temporalio/activity'
import { Redis } from 'ioredis'
import { expect, onTestFinished } from 'vitest'
import type { Pointer } from '../../schemas/pointer.ts'
import { type LocalRedis, startRedis } from '../../src/local/redis.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import type { StoreOperation } from '../stores/faults.ts'
import { testFolder } from './services.ts'
import { makeWorld, type World, type WorldOptions } from './world.ts'

export const SHOP = {
  schema: `create table products (id integer primary key, sku text not null, price integer not null);
    insert into products select n, 'sku-' || n, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: ['sku', 'price'] } } },
}

/** A world on a Redis of its own, its first store or a further one, that may crash: with its data when it comes back, or without. */
export async function worldOnRedis(
  more: Partial<WorldOptions['dataset']> = {},
  { redisAs = 'main', ...options }: Partial<WorldOptions> & { redisAs?: string } = {},
): Promise<{
  world: World
  redis: Redis
  restart(options?: { empty: boolean }): Promise<void>
}> {
  const folder = await testFolder()
  let server: LocalRedis = await startRedis({ dataDir: folder.path, settings: { appendfsync: 'always' } })
  onTestFinished(() => server.stop())
  const redis = new Redis(server.url)
  redis.on('error', () => undefined)
  onTestFinished(() => redis.disconnect())
  const dataset = { ...SHOP.dataset, ...more }
  const where = redisAs === 'main' ? { storeUrl: server.url } : { furtherStores: { [redisAs]: server.url } }
  const world = await makeWorld({ ...SHOP, dataset, ...where, ...options })
  return {
    world,
    redis,
    async restart({ empty } = { empty: false }) {
      await server.crash()
      if (empty) await rm(join(folder.path, 'appendonlydir'), { recursive: true })
      server = await startRedis({ dataDir: folder.path, port: server.port, settings: { appendfsync: 'always' } })
      const store = await world.store(redisAs)
      await expect.poll(() => store.pointer.read().then(() => true), { timeout: 10_000 }).toBe(true)
      await expect.poll(() => redis.ping(), { timeout: 10_000 }).toBe('PONG')
    },
  }
}

/** As a write that was lost leaves it: an older pointer, under a revision of its own. */
export async function setBack(world: World, redis: Redis, pointer: Pointer): Promise<void> {
  await redis.hset(`{sf:${world.dataset}}:p`, { v: JSON.stringify(pointer), r: 'lost' })
}

/** What was found of stores, and done about it, newest first. */
export const repairsOf = async (world: World) =>
  (await historyEntries(world.pool, { dataset: world.dataset, kind: 'alert.store_rebound' })).map(
    ({ detail: { found, outcome } }) => `${found}, ${outcome}`,
  )

/** Does something once, before the first such call of the store that this activity makes. */
export function onceIn(activity: string, operation: StoreOperation, act: () => Promise<unknown>) {
  const fault = {
    armed: false,
    async run(called: StoreOperation, call: () => Promise<unknown>) {
      if (fault.armed && called === operation && Context.current().info.activityType === activity) {
        fault.armed = false
        await act()
      }
      return call()
    },
  }
  return fault
}
