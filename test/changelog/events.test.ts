import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { append } from '../../src/changelog/append.ts'
import type { Source } from '../../src/changelog/source.ts'
import { windowSource } from '../../src/changelog/window.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { connect, copy, cut, foldBetween, read, resolve } from './fold.ts'

/** More than PostgreSQL's lock table is made for: by its defaults 64 for each of 100 connections. */
const APPENDS = 20_000
const WINDOWS = 60
const KEYS = ['a', 'b', 'c']
const random = (below: number) => Math.floor(Math.random() * below)

describe.each(postgresVersions)('events on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let client: Client
  let source: Source
  beforeAll(async () => {
    database = await testDatabase({ version })
    client = await connect(database)
    source = await resolve(client, { events: true })
  })
  afterAll(() => client.end())

  it(`may be appended ${APPENDS} times in one transaction, each to another key`, async () => {
    const from = await cut(client, [source])
    await client.query('begin')
    await client.query(
      `select snapflip.append('shop', 'index', 'key ' || g, g::text) from generate_series(1, ${APPENDS}) as g`,
    )
    const { rows } = await client.query('select count(*)::int as held from pg_locks where pid = pg_backend_pid()')
    expect(rows[0].held).toBeLessThan(50)
    await client.query('commit')
    const to = await cut(client, [source])
    expect(to.truth[0]?.counts.size).toBe(APPENDS)
    expect((await foldBetween(client, source, 0, from, to)).list()).toEqual(to.truth[0]?.list())
  })

  it('of one key are in the order in which their transactions commit, however these overlap', async () => {
    let writing = true
    const clients = await Promise.all(Array.from({ length: 6 }, () => connect(database)))
    const writers = clients.map(async (writer, n) => {
      for (let value = 0; writing; value++) {
        try {
          await writer.query(`begin isolation level ${random(2) === 0 ? 'read committed' : 'repeatable read'}`)
          for (const key of KEYS.filter(() => random(3) === 0))
            await append(writer, 'shop', 'index', key, random(4) === 0 ? null : { n, value })
          await writer.query(`select pg_sleep(${random(80) / 1000})`)
          await writer.query(random(5) === 0 ? 'rollback' : 'commit')
        } catch (error) {
          // The first append to a key by two repeatable-read transactions: one of them must begin again.
          expect(error).toMatchObject({ code: '40001' })
          await writer.query('rollback')
        }
      }
      await writer.end()
    })
    let from = await cut(client, [source])
    const state = (from.truth.map(copy) as [ReturnType<typeof copy>])[0]
    for (let window = 1; window <= WINDOWS; window++) {
      // So that each window has something of every writer's.
      await client.query('select pg_sleep(0.05)')
      const to = await cut(client, [source])
      await read(windowSource(client, source, { from: from.watermark, to: to.watermark.snapshot }), state)
      expect(state.list(), `window ${window}`).toEqual(to.truth[0]?.list())
      from = to
    }
    writing = false
    await Promise.all(writers)
    expect(state.entries).toBeGreaterThan(WINDOWS)
  })

  it('may be appended in a repeatable-read transaction to a key that another has appended to since', async () => {
    const other = await connect(database)
    await append(client, 'shop', 'index', 'known', 1)
    await other.query('begin isolation level repeatable read; select 1')
    await append(client, 'shop', 'index', 'known', 2)
    await append(other, 'shop', 'index', 'known', 3)
    await other.query('commit')
    await other.end()
    expect((await cut(client, [source])).truth[0]?.byKey.get('known')).toMatch(/3$/)
  })

  it('of different keys never meet, in serializable transactions either', async () => {
    const writers = await Promise.all(Array.from({ length: 4 }, () => connect(database)))
    for (const round of [1, 2]) {
      for (const writer of writers) await writer.query('begin isolation level serializable')
      for (const [n, writer] of writers.entries())
        for (let key = 0; key < 50; key++) await append(writer, 'shop', 'index', ['serial', n, key], round)
      for (const writer of writers) await writer.query('commit')
    }
    for (const writer of writers) await writer.end()
  })

  it.each([
    ['undefined', undefined, 'undefined'],
    ['a function', () => 1, 'a function'],
    ['a symbol', Symbol('x'), 'a symbol'],
    ['an object whose toJSON gives nothing', { toJSON: () => undefined }, 'an object'],
    ['a bigint', 1n, 'a bigint'],
  ])('with %s as value are refused, and delete nothing', async (_title, value, found) => {
    await append(client, 'shop', 'index', 'kept', 1)
    await expect(append(client, 'shop', 'index', 'kept', value)).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining(`found ${found}`) as string,
    })
    expect((await cut(client, [source])).truth[0]?.byKey.get('kept')).toMatch(/1$/)
  })

  it.each([
    ['1.5', 1.5],
    ['NaN', Number.NaN],
    ['a number beyond 2^53', 2 ** 53],
    ['null', null],
    ['a part that is undefined', ['a', undefined]],
    ['a lone surrogate', '\ud800'],
    ['an object', {}],
  ])('with %s as key are refused', async (_title, key) => {
    await expect(append(client, 'shop', 'index', key as string, 1)).rejects.toMatchObject({ code: 'USAGE' })
  })

  it('have whole numbers as keys that readers find by the same number', async () => {
    await append(client, 'shop', 'index', 7, 'seven')
    await append(client, 'shop', 'index', [8, 9n], 'two parts')
    const keys = (await cut(client, [source])).truth[0]?.byKey
    expect(keys?.get('7')).toMatch(/"seven"$/)
    expect(keys?.get('8\0' + '9')).toMatch(/"two parts"$/)
  })

  it.each([
    'set standard_conforming_strings = off',
    `set plpgsql.extra_errors = 'all'`,
    `set search_path = ''; set bytea_output = 'escape'`,
    'set transform_null_equals = on; set array_nulls = off',
  ])('are the same whoever appends them: %s', async (setting) => {
    const writer = await connect(database)
    await writer.query(setting)
    await append(writer, 'shop', 'index', ['set', 'a'], { quote: `'"` })
    await writer.end()
    expect((await cut(client, [source])).truth[0]?.byKey.get('set\0a')).toMatch(/\{"quote":"'\\""\}$/)
    await append(client, 'shop', 'index', ['set', 'a'], null)
  })
})
