import { afterAll, beforeAll, expect, it } from 'vitest'
import { gatesSchema, type SqlGate } from '../../schemas/gates.ts'
import { connectBuilder } from '../../src/changelog/session.ts'
import { checkQueries } from '../../src/gates/check-queries.ts'
import { askSql } from '../../src/gates/user-sql.ts'
import { hashedKey } from '../../src/snapshot/hashed-key.ts'
import { type TestDatabase, testDatabase } from '../support/services.ts'
import { change, subjectOf } from './version-subject.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
  await database.pool.query('create table products (id integer); insert into products values (1), (2)')
})
afterAll(() => database.drop())

const CHANGES = [
  change('products', '7', { sku: 'sku-7', price: 70 }, { sku: 'sku-7', price: 0 }),
  change('products', '8', { sku: 'sku-8', price: 80, odd: '\0' }, undefined),
  change('byPrice', '70\0sku-7', 7, undefined),
  change('byPrice', '0\0sku-7', undefined, 7),
]
function asked(sql: string, more: object = {}, changes = CHANGES) {
  const gate = gatesSchema.parse({ user: { free: { kind: 'sql', sql, ...more } } }).user?.free as SqlGate
  return askSql(gate, subjectOf(changes), () => connectBuilder(database.url))
}

it('each row that the query returns speaks against the version; of its keys hashes are kept', async () => {
  const changed = `select index, key from changes where
    (index = 'products' and key = '7' and (before ->> 'price')::integer = 70 and (after ->> 'price')::integer = 0)
    or (index = 'products' and key = '8' and after is null)
    or (index = 'byPrice' and key::json ->> 1 = 'sku-7' and before::text = '7');`
  expect(await asked(changed)).toEqual({
    verdict: 'reject',
    summary: 'its query found 3 rows in 4 changes',
    actual: { found: 3, changes: 4 },
    limit: { found: 0 },
    sampleKeys: ['7', '8', '70\0sku-7'].map((key) => hashedKey(key)),
  })
  expect(await asked('select 1 from changes having count(*) > 4')).toMatchObject({
    verdict: 'pass',
    summary: 'its query found nothing in 4 changes',
  })
  // The database beside it, as it is now.
  expect(await asked('select id from public.products -- all', { verdict: 'warn' })).toMatchObject({
    verdict: 'warn',
    actual: { found: 2 },
  })
})

it.each<[sql: string, more: object, why: RegExp]>([
  ['delete from public.products returning id', {}, /refused its query \(42601\)/],
  [
    'select 1) as found; commit; delete from public.products; select * from (select 1',
    {},
    /refused its query \(42601\)/,
  ],
  ['with gone as (delete from public.products returning id) select id from gone', {}, /refused its query \(0A000\)/],
  ["select snapflip.record(null, null, 'x', null, null)", {}, /refused its query \(25006\)/],
  ["select key from changes where (after ->> 'sku')::integer = 0", {}, /^PostgreSQL refused its query \(22P02\)$/],
  ['select pg_sleep(60)', { timeoutMs: 50 }, /took longer than 50 ms/],
  ['select 1', { changesMax: 3 }, /more than changesMax \(3\) changes/],
])('%s is broken: it reads alone, in time, and not too much', async (sql, more, why) => {
  await expect(asked(sql, more)).rejects.toMatchObject({ name: 'BrokenGate', message: expect.stringMatching(why) })
  expect((await database.pool.query('select from products')).rowCount).toBe(2)
})

it.each([
  ['select nope from changes', /found: column "nope" does not exist/],
  ['select * from products', /tables named with their schema, found: relation "products" does not exist/],
  ['vacuum', /datasets\.shop\.gates\.user\.free\.sql: expected a query/],
])('%s is refused before it is applied', async (sql, found) => {
  const gates = gatesSchema.parse({ user: { free: { kind: 'sql', sql } } })
  const client = await connectBuilder(database.url)
  try {
    await expect(checkQueries(client, 'shop', gates)).rejects.toMatchObject({
      code: 'DEFINITION_INVALID',
      message: expect.stringMatching(found),
    })
    const fine = gatesSchema.parse({ user: { free: { kind: 'sql', sql: 'select key from changes; ' } } })
    await checkQueries(client, 'shop', fine)
  } finally {
    await client.end()
  }
})

it('where that is declared, a sample of whole keys is judged, and the evidence says so', async () => {
  const changes = Array.from({ length: 2000 }, (_, n) => change('products', `key ${n}`, undefined, { n }))
  const found = await asked(
    'select 1 from changes having count(*) not between 20 and 100',
    { changesMax: 100, beyond: 'sample' },
    changes,
  )
  expect(found).toMatchObject({
    verdict: 'pass',
    summary: expect.stringMatching(/^its query found nothing in a sample of \d+ of 2000 changes$/),
  })
})

it('a PostgreSQL that is not there is not the fault of the gate', async () => {
  const gate = gatesSchema.parse({ user: { free: { kind: 'sql', sql: 'select 1' } } }).user?.free as SqlGate
  const nowhere = () => connectBuilder('postgres://127.0.0.1:1/nowhere')
  await expect(askSql(gate, subjectOf(CHANGES), nowhere)).rejects.toMatchObject({ code: 'POSTGRES_UNREACHABLE' })
})
