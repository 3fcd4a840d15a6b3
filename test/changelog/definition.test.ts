import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { scanSource } from '../../src/changelog/scan.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { connect, cut, foldBetween, read, resolve, resolveAndAttach } from './fold.ts'

describe.each(postgresVersions)('a definition on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let client: Client
  beforeAll(async () => {
    database = await testDatabase({ version })
    client = await connect(database)
    await client.query(`
      create table products (id int primary key, sku text, price numeric, "user" text, added timestamptz default now(), hidden bool default false);
      insert into products select g, 'sku-' || g, g * 1.5, 'u' || g from generate_series(1, 5) g;
      create view seen as select * from products where not hidden;
      create materialized view kept as select * from products;
      create unlogged table fleeting (id int primary key);
      create function looks_up(int) returns text language sql stable as 'select sku from public.products where id = $1';
      create function pure(text) returns text language sql immutable as 'select upper($1)';
      create function of_row(products) returns text language sql immutable as 'select ($1).sku';
      create function many_rows(int) returns setof int language sql immutable as 'select generate_series(1, $1)'`)
  })
  afterAll(() => client.end())

  const base = { from: 'products', key: 'id', value: ['sku'] }
  const refused: readonly (readonly [title: string, change: object, message: RegExp])[] = [
    ['a table that is not there', { from: 'nothing' }, /expected a table or view nothing, found none/],
    ['a table of snapflip itself', { from: 'snapflip.changelog', key: 'seq', value: 'op' }, /belongs to snapflip/],
    ['a table of PostgreSQL itself', { from: 'pg_catalog.pg_class', key: 'oid', value: 'relname' }, /belongs to/],
    ['a name that does not parse', { from: 'a.b.c.d' }, /found none|does not read as/],
    ['a missing column in value', { value: ['sku', 'colour'] }, /has no column colour; it has id, sku/],
    ['a column listed twice', { value: ['sku', 'sku'] }, /listed twice/],
    [
      'a missing column in an expression',
      { key: 'colour || 1' },
      /key: colour \|\| 1: PostgreSQL says: column "colour" does not exist/,
    ],
    ['bad SQL', { where: 'price >' }, /where: price >: PostgreSQL says: syntax error/],
    ['more than one expression', { key: 'id, sku' }, /PostgreSQL says|key/],
    [
      'an expression that ends the statement',
      { where: 'true) or (select true' },
      /PostgreSQL says: syntax error|sub-select/,
    ],
    [
      'a where that is not true or false',
      { where: 'price' },
      /PostgreSQL says: argument of WHERE must be type boolean/,
    ],
    ['a sub-select', { value: '(select max(price) from public.products)' }, /uses a sub-select/],
    ['a sub-select in where', { where: 'id in (select 1)' }, /uses a sub-select/],
    ['an aggregate', { value: 'max(price)' }, /uses an aggregate/],
    ['a window function', { value: 'row_number() over ()' }, /uses a window function/],
    ['a function that returns a set', { value: 'public.many_rows(3)' }, /returns a set/],
    ['a volatile function', { value: 'random()' }, /random\(\), which is volatile/],
    ['nextval', { key: `nextval('s')` }, /volatile|does not exist/],
    ['now()', { where: `added < now()` }, /now\(\), whose result depends on the time/],
    ['current_timestamp', { where: `added < current_timestamp` }, /uses the time/],
    ['current_user', { where: `"user" = current_user` }, /uses the time, the user/],
    ['age of now', { value: 'age(added)' }, /age\(timestamp with time zone\), whose result depends/],
    ["'now' as a literal", { where: `added < 'now'::timestamptz` }, /means the time of the build/],
    ['current_setting', { value: `current_setting('timezone')` }, /depends on the time, the session/],
    ['a function that reads tables', { value: 'public.looks_up(id)' }, /looks_up\(integer\), which is declared stable/],
    [
      'a function without its schema',
      { value: 'pure(sku)' },
      /does not exist\. Expressions are evaluated with search_path pg_catalog/,
    ],
    [
      'a system column',
      { key: 'ctid::text' },
      /does not work over a captured row: PostgreSQL says: column "?ctid"? does not exist/,
    ],
    ['tableoid', { key: 'tableoid::text' }, /does not work over a captured row/],
    [
      'an order that cannot be kept',
      { many: true, order: `added - '2026-05-18'` },
      /order of type interval cannot be kept in bytes\. Give an expression .*extract\(epoch/,
    ],
    ['order without many', { order: 'id' }, /order is for many/],
    [
      'a view with triggers',
      { from: 'seen' },
      /changes of public.seen cannot be captured: it is a view. Set capture: "none"/,
    ],
    ['a materialized view with triggers', { from: 'kept' }, /materialized view/],
    ['an unlogged table', { from: 'fleeting', value: 'id' }, /unlogged/],
    ['a sequence or index', { from: 'products_pkey' }, /is not a table or view/],
  ]
  it.each(refused)('with %s is refused, and says what was found and what to do', async (_title, change, message) => {
    const objects = async () => (await client.query('select count(*)::int as n from pg_class')).rows[0].n as number
    const before = await objects()
    await expect(resolve(client, { ...base, ...change }, 'byName')).rejects.toMatchObject({
      code: 'DEFINITION_INVALID',
      message: expect.stringMatching(message) as string,
      details: { dataset: 'shop', index: 'byName' },
    })
    await expect(resolve(client, { ...base, ...change }, 'byName')).rejects.toThrow(/^Index byName of shop: /)
    expect(await objects()).toBe(before)
  })

  it.each([
    ['a column by its exact name, though it is a keyword', { key: 'user', value: 'user' }],
    [
      'columns under the table’s name, and whole rows',
      { key: 'products.sku || products.id', value: 'row_to_json(products)' },
    ],
    [
      'immutable functions of one’s own, also over the whole row',
      { key: 'public.pure(sku)', value: 'public.of_row(products)' },
    ],
    [
      'functions that depend on pinned settings only',
      { key: `to_char(added, 'YYYY-MM-DD HH24') || id`, value: `date_trunc('day', added) + interval '1 day'` },
    ],
    ['comments at their end', { key: 'id -- the number', where: 'not hidden -- seen only' }],
    [
      'bare columns beside a value of the same columns',
      { value: ['id', 'sku', 'price'], key: 'id + 0', where: 'id > 0 and price >= 0' },
    ],
    ['null values', { value: 'nullif(id, 3)' }],
    ['many, in order of a cast', { key: 'hidden', many: true, order: 'price::double precision', value: 'id' }],
    ['several key parts, one of them null', { key: ['sku', 'nullif(id, 2)'], value: 'id' }],
  ])('may have %s: captured and read give the same', async (_title, change) => {
    const source = await resolveAndAttach(client, { ...base, ...change })
    const first = await cut(client, [source])
    await client.query(
      `update products set price = price + 0.25, hidden = not hidden; delete from products where id = 4; insert into products values (4, 'new', 0, 'x')`,
    )
    const next = await cut(client, [source])
    expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
    expect(next.truth[0]?.counts.size).toBeGreaterThan(0)
  })

  it('without capture reads a view in full', async () => {
    for (const from of ['seen', 'kept', 'fleeting']) {
      const source = await resolve(client, { from, key: 'id', value: 'id', capture: 'none' })
      expect((await cut(client, [source])).truth[0]?.counts.size).toBe(
        from === 'fleeting' ? 0 : (await client.query(`select count(*)::int as n from ${from}`)).rows[0].n,
      )
    }
  })

  it('changes its shape with its expressions, their types and the functions they call, and with nothing else', async () => {
    const shape = async (change: object = {}) =>
      (await resolve(client, { ...base, value: 'public.pure(sku)', ...change })).shape
    const before = await shape()
    await client.query('insert into products values (77); create index on products (sku)')
    expect(await shape()).toBe(before)
    for (const change of [
      { key: 'sku' },
      { where: 'true' },
      { value: 'sku' },
      { value: ['sku'] },
      { many: true },
      { many: true, order: 'id' },
    ]) {
      expect(await shape(change), JSON.stringify(change)).not.toBe(before)
    }
    await client.query(
      `create or replace function pure(text) returns text language sql immutable as 'select lower($1)'`,
    )
    expect(await shape()).not.toBe(before)
  })

  it('fails, and does not shrink, when row security hides rows or a privilege is missing', async () => {
    await client.query(`create role "limited ${database.name}"; create table secured (id int primary key, who text);
      grant usage on schema public, snapflip to "limited ${database.name}"; grant temporary on database ${database.name} to "limited ${database.name}"`)
    try {
      await client.query(`set role "limited ${database.name}"`)
      const definition = { from: 'public.secured', key: 'id', value: 'who', capture: 'none' as const }
      await expect(resolve(client, definition)).rejects.toMatchObject({
        code: 'PRIVILEGE_MISSING',
        message: expect.stringMatching(/grant select on public.secured/) as string,
      })
      await client.query('reset role')
      await client.query(`grant select on secured to "limited ${database.name}"`)
      await client.query(`set role "limited ${database.name}"`)
      const source = await resolve(client, definition)
      await client.query('reset role')
      await client.query('alter table secured enable row level security')
      await client.query(`set role "limited ${database.name}"`)
      await expect(resolve(client, definition)).rejects.toMatchObject({
        code: 'PRIVILEGE_MISSING',
        message: expect.stringMatching(/row security hides rows/) as string,
      })
      await client.query('begin; set local row_security = off')
      await expect(read(scanSource(client, source))).rejects.toMatchObject({ code: 'PRIVILEGE_MISSING' })
      await client.query('rollback')
    } finally {
      await client.query(
        `reset role; drop table secured; drop owned by "limited ${database.name}"; drop role "limited ${database.name}"`,
      )
    }
  })

  it.each([
    ['smallint', ['-32768', '-1', '0', '1', '32767']],
    ['integer', ['-2147483648', '-1', '0', '1', '2147483647']],
    ['bigint', ['-9223372036854775808', '-1', '0', '9223372036854775807']],
    ['real', ['-Infinity', '-1e30', '-1', '-1e-40', '0', '1e-40', '1', 'Infinity', 'NaN']],
    ['double precision', ['-Infinity', '-1e300', '-1', '-1e-310', '0', '1e-310', '1', 'Infinity', 'NaN']],
    ['date', ['-infinity', '0044-03-15 BC', '1999-12-31', '2000-01-01', '2026-11-21', 'infinity']],
    ['timestamp', ['-infinity', '1969-01-01', '2026-01-01 00:00:00.000001', 'infinity']],
    ['timestamptz', ['-infinity', '1969-01-01', '2026-01-01 00:00:00.000001', 'infinity']],
    ['text', ['', ' ', 'Z', 'a', 'aa', 'é', '漢', '🎈']],
    ['varchar(9)', ['', 'A', 'a']],
    ['boolean', ['false', 'true']],
    ['uuid', ['00000000-0000-0000-0000-000000000001', 'ffffffff-0000-0000-0000-000000000000']],
    ['bytea', ['\\x', '\\x00', '\\x7f', '\\xff']],
  ])('orders the values of a key by %s as PostgreSQL does, null first', async (type, sorted) => {
    await client.query(`drop table if exists ordered; create table ordered (id int primary key, v ${type})`)
    for (const [n, value] of [null, ...sorted].entries())
      await client.query('insert into ordered values ($1, $2)', [n, value])
    const source = await resolve(client, {
      from: 'ordered',
      key: `'k'::text`,
      value: 'id',
      many: true,
      order: 'v',
      capture: 'none',
    })
    const { truth } = await cut(client, [source])
    const entries = [...(truth[0]?.counts.keys() ?? [])]
      .map((text) => Buffer.from(text, 'latin1'))
      .map((bytes) => {
        const orderEnd = 9 + bytes.readInt32BE(5)
        return { order: bytes.subarray(9, orderEnd), id: Number(bytes.subarray(orderEnd + 4).toString()) }
      })
    entries.sort((a, b) => Buffer.compare(a.order, b.order))
    expect(entries.map(({ id }) => id)).toEqual([null, ...sorted].map((_, n) => n))
  })

  it('orders every NaN alike, as its text has neither sign nor payload', async () => {
    const { rows } = await client.query(
      `select snapflip.order_bytes('Infinity'::float8 - 'Infinity'::float8) = snapflip.order_bytes('NaN'::float8) as double,
              snapflip.order_bytes('Infinity'::float4 - 'Infinity'::float4) = snapflip.order_bytes('NaN'::float4) as single`,
    )
    expect(rows).toEqual([{ double: true, single: true }])
  })
})
