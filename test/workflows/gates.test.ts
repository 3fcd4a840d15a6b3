import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Context } from '@temporalio/activity'
import { expect, it } from 'vitest'
import { type DatasetDefinition, datasetSchema } from '../../schemas/config.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'
import { gateResults } from '../../src/registry/gate-results.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { version } from '../../src/registry/version.ts'
import { versions } from '../../src/registry/versions.ts'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
import type { StoreOperation } from '../stores/faults.ts'
import { around, makeWorld, type World, type WorldOptions } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, sku text not null, category text not null, price integer not null);
    insert into products select n, 'sku-' || n, 'c' || n % 7, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: ['sku', 'price'] } } },
} satisfies WorldOptions

/** Does something once, before the next call of this operation. */
function onceBefore(operation: StoreOperation) {
  return {
    next: null as (() => Promise<unknown>) | null,
    async run(called: StoreOperation, call: () => Promise<unknown>) {
      const act = called === operation ? this.next : null
      if (act !== null) {
        this.next = null
        await act()
      }
      return call()
    },
  }
}

/** How many flips were ever asked for, and whether the last refresh came to asking. */
async function flips(world: World): Promise<{ intended: number; cameToFlip: boolean }> {
  const { rows } = await world.pool.query<{ intended: number; flip: boolean }>(
    `select (select count(*)::integer from snapflip.flip_intents) as intended, durations ? 'flip' as flip
       from snapflip.refresh_runs order by opened_at desc limit 1`,
  )
  return { intended: rows[0]?.intended ?? 0, cameToFlip: rows[0]?.flip ?? false }
}

/** The failed candidate is gone: retired, swept, and nothing of it left in the store. */
async function expectDiscarded(world: World, staying: readonly (string | null)[]): Promise<void> {
  const store = await world.store()
  expect((await store.data.listManifests()).sort()).toEqual([...staying].sort())
  expect(await store.data.generations()).toHaveLength(staying.length)
  const [newest] = await versions(world.pool, world.dataset)
  expect(newest?.state).toBe('swept')
}

it('a gate that needs a person ends the refresh HELD, whatever definition the worker has by then: the version is kept, nothing is flipped', async () => {
  const world = await makeWorld({
    ...SHOP,
    dataset: {
      ...SHOP.dataset,
      gates: { changeVolume: { deleted: { percent: 10, atLeast: 10, verdict: 'hold' } } },
    },
  })
  // Before it is planned and afterwards it is another worker's, one with limits of its own.
  const { dataset, config } = world
  const { gates } = datasetSchema.parse({ ...SHOP.dataset, stores: ['main'] })
  const lenient = { ...(config.datasets[dataset] as DatasetDefinition), gates }
  const other = { ...config, datasets: { [dataset]: lenient } }
  const isPlanning = () => {
    try {
      return Context.current().info.activityType === 'plan'
    } catch {
      return true
    }
  }
  await world.worker((deps) => ({
    ...deps,
    get config() {
      return isPlanning() ? deps.config : other
    },
  }))
  const first = await world.refresh()
  const before = await world.pointer()
  await world.pool.query('delete from products where id > 100')
  const held = await world.refresh()
  expect(held).toMatchObject({ status: 'HELD', active: first.tag })
  expect(held.summary).toContain('changeVolume of products: 200 deleted')
  expect(await world.pointer()).toEqual(before)
  expect((await version(world.pool, world.dataset, held.tag as string)).state).toBe('held')
  expect(await flips(world)).toEqual({ intended: 1, cameToFlip: false })
  const [told, ...more] = await historyEntries(world.pool, { dataset: world.dataset, kind: 'alert' })
  expect(more).toEqual([])
  expect(told).toMatchObject({ kind: 'alert.gate_refused', version: held.tag })
  expect(told?.detail).toMatchObject({
    gates: [{ gate: 'changeVolume', index: 'products', verdict: 'hold', actual: { deleted: 200 } }],
  })
})

it('two values for a key of a unique index refuse the version, with the keys as evidence', async () => {
  const world = await makeWorld({
    ...SHOP,
    dataset: { indexes: { byCategory: { from: 'public.products', key: 'category', value: 'id' } } },
  })
  await world.worker()
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'REJECTED', active: null })
  const [evidence] = (await gateResults(world.pool, world.dataset, outcome.tag as string)).filter(
    (result) => result.gate === 'uniqueness',
  )
  expect(evidence).toMatchObject({ verdict: 'reject', index: 'byCategory', actual: { duplicateKeys: 7 } })
  expect(evidence?.sampleKeys).toHaveLength(7)
  expect(evidence?.sampleKeys[0]).toMatch(/^sha256:[0-9a-f]{16}$/)
  expect(await (await world.store()).pointer.read()).toBeNull()
})

it('a manifest that changed after its gates is not flipped to', async () => {
  const world = await makeWorld(SHOP)
  const judged = onceBefore('data.readManifest')
  await world.worker(around(judged))
  const tamper = async () => {
    // The gates' own reading comes first; the second is preflip's.
    if (!world.logged.some((line) => line.gate === 'integrity')) {
      judged.next = tamper
      return
    }
    const folder = join((await world.store()).url.slice('file:'.length), world.dataset, 'manifests')
    const [row] = await versions(world.pool, world.dataset)
    const path = join(folder, row?.tag ?? '')
    await writeFile(path, (await readFile(path, 'utf8')).replace('"count":300', '"count":301'))
  }
  judged.next = tamper
  const failure = await world.refreshFailure()
  expect(failureCode(failure)).toBe('PREFLIP_REFUSED')
  expect(failureMessage(failure)).toMatch(
    /is not flipped to: expected the manifest and pages that its gates saw, found/,
  )
  expect(await flips(world)).toEqual({ intended: 0, cameToFlip: false })
  await expectDiscarded(world, [])
})

it('a pack of an earlier version that goes missing after the gates keeps readers where they are', async () => {
  const world = await makeWorld(SHOP)
  const reading = onceBefore('data.read')
  await world.worker(around(reading))
  const first = await world.refresh()
  await world.pool.query('update products set price = 1 where id = 7')
  const store = await world.store()
  const bytes = await store.data.readManifest(first.tag ?? '')
  const { generation } = decodeManifest(bytes ?? new Uint8Array(), { dataset: world.dataset, tag: first.tag ?? '' })
  const lose = async () => {
    const judged = world.logged.filter((line) => line.gate === 'integrity').length
    // The gates read too: what comes after the second version's verdicts is preflip's reading.
    if (judged < 2) reading.next = lose
    else await rm(join(store.url.slice('file:'.length), world.dataset, 'packs', generation, '0'))
  }
  reading.next = lose
  const failure = await world.refreshFailure()
  expect(failureCode(failure)).toBe('PREFLIP_REFUSED')
  expect(failureMessage(failure)).toContain(generation)
  expect((await flips(world)).intended).toBe(1)
  expect((await world.pointer()).active?.tag).toBe(first.tag)
})

it('evidence older than its limit is not flipped upon', async () => {
  const world = await makeWorld({ ...SHOP, dataset: { ...SHOP.dataset, evidenceMaxAgeMs: 1 } })
  await world.worker()
  const failure = await world.refreshFailure()
  expect(failureCode(failure)).toBe('PREFLIP_REFUSED')
  expect(failureMessage(failure)).toContain('expected evidence younger than 1 ms')
  expect((await flips(world)).intended).toBe(0)
  await expectDiscarded(world, [])
})

it('a hold that comes while a version is built keeps it from being flipped to', async () => {
  const world = await makeWorld(SHOP)
  const building = onceBefore('writer.finish')
  await world.worker(around(building))
  const first = await world.refresh()
  await world.pool.query('update products set price = 1 where id <= 5')
  building.next = () => world.hold('stocktaking')
  const failure = await world.refreshFailure()
  expect(failureCode(failure)).toBe('ON_HOLD')
  expect(await flips(world)).toEqual({ intended: 1, cameToFlip: false })
  expect(await world.pointer()).toMatchObject({ active: { tag: first.tag }, hold: { reason: 'stocktaking' } })
  await expectDiscarded(world, [first.tag])
})

it('a hold that comes between preflip and flip still wins', async () => {
  const world = await makeWorld(SHOP)
  const flipping = onceBefore('pointer.swap')
  await world.worker(around(flipping))
  const first = await world.refresh()
  await world.pool.query('update products set price = 1 where id <= 5')
  flipping.next = () => world.hold('stocktaking')
  expect(failureCode(await world.refreshFailure())).toBe('ON_HOLD')
  expect(await flips(world)).toEqual({ intended: 2, cameToFlip: true })
  expect((await world.pointer()).active?.tag).toBe(first.tag)
  await expectDiscarded(world, [first.tag])
})

it('a refresh that is overtaken by a rollback while it builds loses, and its candidate is discarded', async () => {
  const world = await makeWorld(SHOP)
  const building = onceBefore('writer.finish')
  await world.worker(around(building))
  const first = await world.refresh()
  await world.pool.query('update products set price = 1 where id <= 5')
  const second = await world.refresh()
  await world.pool.query('update products set price = 2 where id <= 5')
  building.next = () => world.rollback({ reason: 'prices are off' })
  const failure = await world.refreshFailure()
  expect(failureCode(failure)).toBe('CONFLICT')
  expect(failureMessage(failure)).toContain('Another flip came first')
  expect(await world.pointer()).toMatchObject({ active: { tag: first.tag }, quarantined: [second.tag] })
  await expectDiscarded(world, [first.tag, second.tag])
})

it.each([
  {
    what: 'a table that is altered and written to while it is judged',
    capture: 'triggers',
    sql: 'alter table products add column weight integer; update products set price = price + 1',
    why: /products changed: .*weight/,
  },
  {
    what: 'a source without capture that changes while it is judged',
    capture: 'none',
    sql: 'update products set price = price + 1',
    why: /is not captured/,
  },
] as const)('$what: drift says that it compared nothing', async ({ capture, sql, why }) => {
  const products = { ...SHOP.dataset.indexes.products, ...(capture === 'none' ? { capture } : {}) }
  const world = await makeWorld({ ...SHOP, dataset: { indexes: { products } } })
  const judging = onceBefore('data.readManifest')
  await world.worker(around(judging))
  judging.next = () => world.pool.query(sql)
  const outcome = await world.refresh()
  expect(judging.next).toBeNull()
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  const results = await gateResults(world.pool, world.dataset, outcome.tag as string)
  expect(results.find((result) => result.gate === 'drift')).toMatchObject({
    verdict: 'warn',
    summary: expect.stringMatching(why),
  })
})
