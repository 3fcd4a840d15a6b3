import { describe, expect, it } from 'vitest'
import { failureCode } from '../../src/core/failure.ts'
import { makeWorld } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, sku text not null, category text not null, price integer not null);
    insert into products select n, 'sku-' || n, 'c' || n % 7, n * 10 from generate_series(1, 500) n`,
  dataset: {
    indexes: {
      products: { from: 'public.products', key: 'id', value: ['sku', 'price'] },
      byCategory: { from: 'public.products', key: 'category', many: true, order: 'price', value: 'id' },
    },
  },
}

describe('refresh', () => {
  it('builds the first version in full, then the next from the changes alone, and readers follow', async () => {
    const world = await makeWorld(SHOP)
    await world.worker()
    const first = await world.refresh()
    expect(first).toMatchObject({ status: 'FLIPPED', active: first.tag })
    const reader = await world.reader()
    expect(await reader.get('products', 7)).toEqual({ sku: 'sku-7', price: 70 })
    expect(await reader.list('byCategory', 'c0')).toHaveLength(71)

    await world.pool.query('update products set price = 1 where id = 7; delete from products where id = 14')
    const second = await world.refresh()
    expect(second.summary).toMatch(/products: \+0 ~1 -1 of 500/)
    expect(await reader.get('products', 7, { fresh: { atLeast: second.tag as string } })).toEqual({
      sku: 'sku-7',
      price: 1,
    })
    expect(await reader.get('products', 14)).toBeUndefined()
    expect((await reader.list('byCategory', 'c0')).slice(0, 2)).toEqual([7, 21])
  })

  it('with nothing new is a success that makes no version and moves only freshAsOf', async () => {
    const world = await makeWorld(SHOP)
    await world.worker()
    const first = await world.refresh()
    const before = await world.pointer()
    expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW', tag: null, active: first.tag })
    const { freshAsOf, ...after } = await world.pointer()
    expect(after).toEqual({ ...before, freshAsOf: undefined })
    expect(Date.parse(freshAsOf?.at ?? '')).toBeGreaterThan(Date.parse(before.freshAsOf?.at ?? ''))
  })

  it('refuses a bad change with its evidence, and readers see nothing of it', async () => {
    const world = await makeWorld({
      ...SHOP,
      dataset: { ...SHOP.dataset, gates: { changeVolume: { deleted: { percent: 10, atLeast: 10 } } } },
    })
    await world.worker()
    const first = await world.refresh()
    await world.pool.query('delete from products where id > 100')
    const bad = await world.refresh()
    expect(bad).toMatchObject({ status: 'REJECTED', active: first.tag })
    expect(bad.gates.find((gate) => gate.verdict === 'reject')).toMatchObject({
      gate: 'changeVolume',
      index: 'products',
      actual: { deleted: 400 },
    })
    expect(await (await world.reader()).get('products', 200)).toEqual({ sku: 'sku-200', price: 2000 })
  })

  it('refuses a bad change that comes with a full build', async () => {
    const world = await makeWorld({
      ...SHOP,
      dataset: {
        ...SHOP.dataset,
        gates: { changeVolume: { updated: { percent: 10, atLeast: 10, verdict: 'reject' } } },
      },
    })
    await world.worker()
    const first = await world.refresh()
    await world.pool.query('update products set price = 0 where id > 100')
    const bad = await world.refresh({ full: true })
    expect(bad).toMatchObject({ status: 'REJECTED', active: first.tag })
    expect(bad.gates.find((gate) => gate.verdict === 'reject')).toMatchObject({
      index: 'products',
      actual: { updated: 400 },
    })
  })

  it('rollback goes back, quarantines what it left and holds the dataset', async () => {
    const world = await makeWorld(SHOP)
    await world.worker()
    const first = await world.refresh()
    await world.pool.query('update products set price = 0')
    await world.pool.query('update products set price = 1 where id = 1')
    const second = await world.refresh()
    const back = await world.rollback({ reason: 'prices are off' })
    expect(back).toMatchObject({ status: 'ROLLED_BACK', from: second.tag, to: first.tag })
    expect(await world.pointer()).toMatchObject({
      active: { tag: first.tag },
      quarantined: [second.tag],
      hold: { reason: 'prices are off' },
    })
    expect(await (await world.reader()).get('products', 2)).toEqual({ sku: 'sku-2', price: 20 })
    expect(failureCode(await world.refreshFailure())).toBe('ON_HOLD')
  })
})
