import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import type { TableIndex } from '../../schemas/config.ts'
import type { VersionRef } from '../../schemas/pointer.ts'
import { gateResults } from '../../src/registry/gate-results.ts'
import { around, makeWorld, type World } from '../support/world.ts'
import type { DriftThreadData } from './drift-thread.ts'

const SCHEMA = `create table products (id integer primary key, price integer not null);
  insert into products select n, n * 10 from generate_series(1, 300) n`
const MODES = ['sample', 'full'] as const

async function worldOf(mode: (typeof MODES)[number], rows = SCHEMA): Promise<World> {
  return makeWorld({
    schema: rows,
    dataset: {
      indexes: {
        products: { from: 'public.products', key: 'id', value: 'price' },
        byPrice: { from: 'public.products', key: 'price % 10', value: 'id', many: true },
      },
      gates: { drift: { mode } },
    },
  })
}

async function driftOf(world: World, tag: string | null) {
  const results = await gateResults(world.pool, world.dataset, tag as string)
  return Object.fromEntries(results.filter((result) => result.gate === 'drift').map((result) => [result.index, result]))
}

/** Runs `sql` once the version is sealed and before its gates look. */
async function whenSealed(world: World, sql: string): Promise<{ done: boolean }> {
  const change = { done: false, armed: false }
  await world.worker(
    around({
      async run(operation, call) {
        const result = await call()
        if (operation === 'data.putManifest') change.armed = true
        else if (operation === 'data.readManifest' && change.armed && !change.done) {
          change.done = true
          await world.pool.query(sql)
        }
        return result
      },
    }),
  )
  return change
}

it.each(MODES)('drift, %s: changes since the watermark are no false alarm', async (mode) => {
  const world = await worldOf(mode)
  const change = await whenSealed(
    world,
    `update products set price = price + 1 where id <= 20; delete from products where id = 30;
     insert into products values (1001, 7); update products set id = 1002 where id = 40`,
  )
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  expect(change.done).toBe(true)
  expect((await driftOf(world, outcome.tag)).products).toMatchObject({ verdict: 'pass', actual: { different: 0 } })
})

it.each(MODES)('drift, %s: a row that the version has not, has otherwise or has too much refuses it', async (mode) => {
  const world = await worldOf(mode)
  await world.worker()
  const first = await world.refresh()
  // Written behind the capture's back: no change tells of it, and no full build comes of it.
  const unseen = async (sql: string) => {
    await world.pool.query(sql)
    await world.pool.query('delete from snapflip.changelog')
  }
  await unseen('update products set price = price + 1 where id = 7')
  await unseen('delete from products where id = 8')
  await unseen('insert into products values (1001, 7)')
  await world.pool.query('update products set price = 5 where id = 300')
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'REJECTED', active: first.tag })
  const { products, byPrice } = await driftOf(world, outcome.tag)
  expect(products).toMatchObject({ verdict: 'reject', actual: { different: 3 } })
  expect(products?.sampleKeys).toHaveLength(3)
  expect(products?.sampleKeys[0]).toMatch(/^sha256:[0-9a-f]{16}$/)
  expect(byPrice).toMatchObject({ verdict: 'reject' })
})

it('drift in full compares a table many times larger than what it may hold, and leaves no file', async () => {
  const rows = 400_000
  const world = await makeWorld({
    schema: `create table products (id integer primary key, sku text not null);
      insert into products select n, repeat(md5(n::text), 8) from generate_series(1, ${rows}) n`,
    dataset: {
      indexes: { products: { from: 'public.products', key: 'id', value: 'sku' } },
      gates: { drift: { mode: 'off' } },
    },
  })
  await world.worker()
  await world.refresh()
  const { active } = await world.pointer()
  await world.pool.query(`update products set sku = 'another' where id <= 1000`)
  const folder = join(world.workDir, 'drift')
  const data: DriftThreadData = {
    database: world.config.database,
    storeUrl: (await world.store()).url,
    dataset: world.dataset,
    folder,
    index: 'products',
    definition: world.config.datasets[world.dataset]?.indexes.products as TableIndex,
    version: active as VersionRef,
  }
  const thread = new Worker(new URL('./drift-thread.ts', import.meta.url), {
    workerData: data,
    resourceLimits: { maxOldGenerationSizeMb: 64 },
  })
  // Rejects when the thread runs out of memory.
  const [found] = await once(thread, 'message')
  expect(found).toMatchObject({ compared: rows, differentCount: 0, notCompared: null })
  expect(await readdir(folder).catch(() => [])).toEqual([])
})
