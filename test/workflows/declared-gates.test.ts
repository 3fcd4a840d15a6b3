import { expect, it } from 'vitest'
import { gatesSchema } from '../../schemas/gates.ts'
import type { GateResult, RefreshOutcome } from '../../schemas/refresh.ts'
import { hashedKey } from '../../src/snapshot/hashed-key.ts'
import { makeWorld } from '../support/world.ts'

const found = ({ gates }: RefreshOutcome, name: GateResult['gate']) => gates.find(({ gate }) => gate === name)

it('calibrated limits, shares of columns and a value schema judge what a refresh built', async () => {
  const gates = {
    changeVolume: {
      updated: { percent: 100, atLeast: 5, verdict: 'hold' },
      bytes: { grown: { percent: 20, atLeast: 100, verdict: 'hold' } },
      calibrate: { minimum: 3, deviations: 3 },
    },
    columns: {
      products: { price: { nullShare: { max: 0.1 } }, sku: { distinctShare: { min: 0.9, verdict: 'hold' } } },
    },
    requiredKeys: { products: { keys: [1, '300'] } },
    columnSample: 1000,
    valueSchema: {
      products: {
        schema: {
          type: 'object',
          properties: { price: { type: ['integer', 'null'], minimum: 0 } },
          required: ['sku', 'price'],
        },
      },
    },
  } as const
  const world = await makeWorld({
    schema: `create table products (id integer primary key, sku text not null, price integer);
      insert into products select n, 'sku-' || n, n * 10 from generate_series(1, 300) n`,
    dataset: {
      indexes: { products: { from: 'public.products', key: 'id', value: ['sku', 'price'] } },
      gates: gatesSchema.parse(gates),
    },
  })
  const { pool } = world
  await world.worker()
  const change = (sql: string) => pool.query(sql)
  const first = await world.refresh()
  expect(first.status).toBe('FLIPPED')
  expect(found(first, 'valueSchema')).toMatchObject({ verdict: 'pass', summary: '300 entries are as the schema says' })
  expect(found(first, 'requiredKeys')).toMatchObject({ verdict: 'pass', summary: 'all 2 required keys are there' })
  expect(found(first, 'nullShare')).toMatchObject({ verdict: 'pass', actual: { price: 0, entries: 300 } })

  // Good versions make the baseline; the first is none, and what was refused is none.
  const usual = [20, 22, 21]
  for (const rows of usual) {
    await change(`update products set price = price + 1 where id <= ${rows}`)
    const good = await world.refresh()
    expect(good.status).toBe('FLIPPED')
    expect(found(good, 'changeVolume')?.limit.baseline).toMatch(
      /^declared limits: only [012] of 3 versions of history$/,
    )
  }
  await change('update products set price = price + 1 where id <= 200')
  const tooMany = await world.refresh()
  expect(tooMany).toMatchObject({ status: 'HELD' })
  expect(found(tooMany, 'changeVolume')).toMatchObject({
    verdict: 'hold',
    limit: {
      updated: 26,
      updatedMedian: 21,
      updatedMad: 1,
      baseline: expect.stringMatching(/^median and MAD of 3 versions, v\S+ to v\S+$/),
    },
    summary: expect.stringContaining(
      '200 updated (66.7 % of 300), allowed are 26 (usual are 21, median of 3 versions); by median and MAD',
    ),
  })
  await change('update products set price = price - 1 where id <= 200')
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })

  await change("update products set sku = repeat('x', 1000) where id <= 20")
  const grown = await world.refresh()
  expect(found(grown, 'changeVolume')).toMatchObject({
    verdict: 'hold',
    summary: expect.stringMatching(/19\.\d KiB more \(.* of \d.* KiB\), allowed are /),
  })
  expect(found(grown, 'distinctShare')).toMatchObject({ verdict: 'pass' })

  await change("update products set sku = 'sku-' || id; update products set price = -1 where id = 7")
  const negative = await world.refresh()
  expect(negative).toMatchObject({ status: 'REJECTED' })
  expect(found(negative, 'valueSchema')).toMatchObject({
    verdict: 'reject',
    summary: '1 of 1 changed entries are not as the schema says: #/properties/price/minimum (1)',
    sampleKeys: [hashedKey('7')],
  })

  await change(
    "update products set price = 70 where id = 7; update products set price = null where id > 260; update products set sku = 'none' where id > 260; delete from products where id = 300",
  )
  const emptied = await world.refresh()
  expect(emptied).toMatchObject({ status: 'REJECTED' })
  expect(found(emptied, 'nullShare')).toMatchObject({
    verdict: 'reject',
    summary: 'price is null in 13.04 %, at most 10 % may be (all 299 entries)',
  })
  expect(found(emptied, 'distinctShare')).toMatchObject({
    verdict: 'hold',
    summary: expect.stringContaining('sku has 261 distinct of 299 values (87.29 %)'),
  })
  expect(found(emptied, 'requiredKeys')).toMatchObject({
    verdict: 'reject',
    summary: '1 of 2 required keys are missing: "300"',
  })
  expect((await world.pointer()).active?.tag).not.toBe(first.tag)
})
