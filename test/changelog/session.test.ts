import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { preflight } from '../../src/changelog/capture.ts'
import { connectBuilder, inSnapshot } from '../../src/changelog/session.ts'
import { takeWatermark } from '../../src/changelog/watermark.ts'
import { currentSnapshot } from '../../src/changelog/window.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { connect, cut, foldBetween, resolveAndAttach } from './fold.ts'

/** What a role may be given that would corrupt a build, cut it off, or keep it from writing; and what a build must see instead. */
const SETTINGS: readonly (readonly [name: string, role: string, build: string])[] = [
  ['xmlbinary', 'hex', 'base64'],
  ['bytea_output', 'escape', 'hex'],
  ['datestyle', 'German, DMY', 'ISO, YMD'],
  ['timezone', 'Asia/Kathmandu', 'UTC'],
  ['intervalstyle', 'iso_8601', 'postgres'],
  ['extra_float_digits', '-15', '1'],
  ['search_path', 'public', 'pg_catalog, pg_temp'],
  ['row_security', 'on', 'off'],
  ['synchronous_commit', 'off', 'on'],
  ['transform_null_equals', 'on', 'off'],
  ['statement_timeout', '30s', '0'],
  ['idle_in_transaction_session_timeout', '30s', '0'],
  ['idle_session_timeout', '30s', '0'],
  ['transaction_timeout', '30s', '0'],
  ['lock_timeout', '30s', '1min'],
  ['default_transaction_read_only', 'on', 'off'],
  ['default_transaction_isolation', 'serializable', 'read committed'],
]

describe.each(postgresVersions)('a build on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let role: string
  let url: string
  let settings: typeof SETTINGS
  beforeAll(async () => {
    database = await testDatabase({ version })
    role = `role_${database.name}`
    await database.pool.query(`create role ${role} superuser login password 'pw'; create table products (id int primary key, raw bytea, day date);
      insert into products values (1, '\\x00ff', '2026-02-07')`)
    const known = await database.pool.query<{ name: string }>('select lower(name) as name from pg_settings')
    settings = SETTINGS.filter(([name]) => known.rows.some((row) => row.name === name))
    expect(settings.length).toBe(version === '15' ? SETTINGS.length - 1 : SETTINGS.length)
    for (const [name, value] of settings)
      await database.pool.query(`alter role ${role} set ${name} = ${name === 'search_path' ? value : `'${value}'`}`)
    const as = new URL(database.url)
    as.username = role
    as.password = 'pw'
    url = as.href
  })
  afterAll(() => database.pool.query(`drop owned by ${role}; drop role ${role}`))

  it('goes by its own settings, whatever its role is set to, in its transactions and between them', async () => {
    const plain = await connect({ ...database, url })
    for (const [name, value] of settings)
      expect((await plain.query('select current_setting($1) as value', [name])).rows[0].value, name).toMatch(
        new RegExp(`^${value}`),
      )
    await plain.end()
    const client = await connectBuilder(url)
    const see = async () => {
      const { rows } = await client.query<{ name: string; value: string }>(
        `select n as name, current_setting(n) as value from unnest($1::text[]) n`,
        [settings.map(([name]) => name)],
      )
      return Object.fromEntries(rows.map(({ name, value }) => [name, value]))
    }
    const wanted = Object.fromEntries(settings.map(([name, , build]) => [name, build]))
    await takeWatermark(client, [])
    expect(await see()).toEqual(wanted)
    await client.query('commit')
    await inSnapshot(client, [], async () => expect(await see()).toEqual(wanted))
    const between = await see()
    for (const name of Object.keys(wanted).filter((name) => /timeout|^default/.test(name) && name !== 'lock_timeout'))
      expect(between[name], name).toBe(wanted[name])
    await client.end()
  })

  it('gives the same bytes under such a role', async () => {
    const [plain, client] = [await connect(database), await connectBuilder(url)]
    const definition = { from: 'public.products', key: 'id', value: 'xmlforest(raw, day)' }
    const source = await resolveAndAttach(client, definition)
    const first = await cut(plain, [source])
    expect((await cut(client, [source])).truth[0]?.list()).toEqual(first.truth[0]?.list())
    await plain.query(`update products set raw = '\\x01fe'`)
    expect(await preflight(client, [source], first.watermark, await currentSnapshot(client))).toMatchObject([
      { ok: true },
    ])
    const next = await cut(plain, [source])
    expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
    await Promise.all([plain.end(), client.end()])
  })
})
