import { expect, it } from 'vitest'
import type { IndexManifest } from '../../schemas/manifest.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { version } from '../../src/registry/version.ts'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
import type { StoreOperation } from '../stores/faults.ts'
import { testRedis } from '../support/services.ts'
import { expectSound } from '../support/soundness.ts'
import { around, makeWorld, type World } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n from generate_series(1, 100) n`,
  dataset: { keep: 2, indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

async function refreshAfter(world: World, change = 'update products set price = price + 1'): Promise<string> {
  await world.pool.query(change)
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  return outcome.tag as string
}

const stateOf = async (world: World, tag: string) => (await version(world.pool, world.dataset, tag)).state

it('a sweep that is cut off after it deleted a manifest is finished by the next: the pointer forgets the version', async () => {
  const world = await makeWorld(SHOP)
  let cut: 'armed' | 'next swap' | 'done' | null = null
  await world.worker(
    around({
      run: async (operation: StoreOperation, call: () => Promise<unknown>) => {
        if (operation === 'data.deleteManifest' && cut === 'armed') cut = 'next swap'
        else if (operation === 'pointer.swap' && cut === 'next swap') {
          cut = 'done'
          // Anything that ends this attempt; a store that does not answer is asked again within it.
          throw new SnapflipError('POSTGRES_UNREACHABLE', 'a test')
        }
        return call()
      },
    }),
  )
  const first = await refreshAfter(world)
  await refreshAfter(world)
  cut = 'armed'
  await refreshAfter(world)
  expect(cut).toBe('done')
  expect(await stateOf(world, first)).toBe('swept')
  expect((await world.pointer()).retired).toEqual([])
  await expectSound(world)
})

it('a version that the registry retired and the pointer still needs stays, and keeps nothing else from being swept', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const first = await refreshAfter(world)
  await refreshAfter(world)
  expect((await world.pointer()).previous?.tag).toBe(first)
  await world.pool.query("update snapflip.index_versions set state = 'retired' where tag = $1", [first])
  Object.assign(world.config.datasets[world.dataset] ?? {}, { evidenceMaxAgeMs: 1 })
  await world.apply()
  await world.pool.query('update products set price = 0 where id = 7')
  expect(failureCode(await world.refreshFailure())).toBe('PREFLIP_REFUSED')
  expect(world.logged.flatMap((line) => line.alert ?? [])).toEqual([])
  const store = await world.store()
  expect(await store.data.listManifests()).toContain(first)
  expect(await store.data.generations()).toHaveLength(2)
})

it('a version is not swept while one that stays cannot be read, and goes when that one leaves too', async () => {
  const redis = await testRedis()
  const dataset = { ...SHOP.dataset, keep: 3 }
  const world = await makeWorld({ ...SHOP, dataset, storeUrl: `${redis.url}?prefix=${redis.prefix}` })
  await world.worker()
  const { data } = await world.store()
  const first = await refreshAfter(world)
  const second = await refreshAfter(world, 'update products set price = 0 where id = 7')
  await refreshAfter(world, 'update products set price = 0 where id = 8')
  const bytes = (await data.readManifest(second)) as Uint8Array
  const { location } = decodeManifest(bytes, { dataset: world.dataset, tag: second }).indexes.products as IndexManifest
  await data.deleteUnits([location])

  await refreshAfter(world, 'update products set price = 0 where id = 9')
  expect(await stateOf(world, first)).toBe('retired')
  expect(await data.listManifests()).toContain(first)
  expect(world.logged.map((line) => line.msg)).toContain('not swept: a version that stays is damaged')

  await refreshAfter(world, 'update products set price = 0 where id = 10')
  expect([await stateOf(world, first), await stateOf(world, second)]).toEqual(['swept', 'swept'])
  await expectSound(world)
})
