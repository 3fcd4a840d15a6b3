import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { attach, preflight } from '../../src/changelog/capture.ts'
import type { Source } from '../../src/changelog/source.ts'
import { currentSnapshot, windowSource } from '../../src/changelog/window.ts'
import { migrate } from '../../src/registry/migrate.ts'
import { postgresVersions, type TestDatabase, testDatabase, uniqueName } from '../support/services.ts'
import { type Cut, connect, cut, foldBetween, read, resolve, resolveAndAttach } from './fold.ts'

describe.each(postgresVersions)('a row on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let client: Client
  beforeAll(async () => {
    database = await testDatabase({ version })
    client = await connect(database)
  })
  afterAll(() => client.end())

  const MB = 1 << 20
  async function fresh() {
    await client.query(
      `drop table if exists big; create table big (id int primary key, a text, b text); insert into big values (1, 'small')`,
    )
    return resolveAndAttach(client, { from: 'big', key: 'id', value: 'id' })
  }

  async function expectFull(source: Source, from: Cut, reason: RegExp) {
    const to = await currentSnapshot(client)
    const [found] = await preflight(client, [source], from.watermark, to)
    expect(found).toMatchObject({ ok: false, reason: expect.stringMatching(reason) as string })
    await expect(read(windowSource(client, source, { from: from.watermark, to }))).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringMatching(reason) as string,
    })
  }

  it('whose text is longer than a version can hold is written all the same; the next build is a full one, and says why', async () => {
    const source = await fresh()
    const reason = /a row of (public\.)?big could not be captured: too large: \d+ bytes as text, expected at most \d+/
    const first = await cut(client, [source])
    await client.query(`insert into big values (2, repeat('x', ${257 * MB}))`)
    await expectFull(source, first, reason)
    const second = await cut(client, [source])
    await client.query('delete from big where id = 2')
    await expectFull(source, second, reason)
    const third = await cut(client, [source])
    await client.query('update big set id = 3')
    const last = await cut(client, [source])
    expect((await foldBetween(client, source, 0, third, last)).list()).toEqual(last.truth[0]?.list())
  }, 120_000)

  // On one version: to make them takes a while, and memory.
  const beyond: readonly (readonly [title: string, a: string, b: string])[] = [
    ['whose text PostgreSQL cannot make', `repeat('"', ${560 * MB})`, 'null'],
    ['larger than 1 GB with its columns uncompressed', `repeat('x', ${520 * MB})`, `repeat('y', ${520 * MB})`],
  ]
  it.each(version === '18' ? beyond : [])(
    '%s is written all the same',
    async (_title, a, b) => {
      await fresh()
      // Column by column, since PostgreSQL must have the new ones in one row before it compresses them; and before capture is there.
      await client.query('drop trigger snapflip_capture on big')
      await client.query(`update big set a = ${a}`)
      await client.query(`update big set b = ${b}`)
      const source = await resolveAndAttach(client, { from: 'big', key: 'id', value: 'id' })
      const from = await cut(client, [source])
      await client.query('update big set id = 2')
      await expectFull(source, from, /too large to be written as text \(SQLSTATE \w{5}\)/)
      expect((await client.query('select id from big')).rows).toEqual([{ id: 2 }])
    },
    180_000,
  )

  it('that a type cannot write as text is written all the same', async () => {
    await client.query(
      `drop table if exists moody; drop type if exists mood; create type mood as enum ('sad', 'ok'); create table moody (id int primary key, mood mood); insert into moody values (1, 'ok')`,
    )
    const source = await resolveAndAttach(client, { from: 'moody', key: 'id', value: 'id' })
    const first = await cut(client, [source])
    // A value whose label is gone: what pg_enum lost, PostgreSQL cannot write.
    await client.query(`delete from pg_enum where enumtypid = 'mood'::regtype and enumlabel = 'ok'`)
    await client.query('update moody set id = 2')
    const [found] = await preflight(client, [source], first.watermark, await currentSnapshot(client))
    expect(found).toMatchObject({ ok: false })
    const { rows } = await client.query(
      `select reason from snapflip.changelog where op = 'x' and relid = 'moody'::regclass`,
    )
    expect(rows).toEqual([{ reason: expect.stringMatching(/cannot be written as text \(SQLSTATE \w{5}\)/) as string }])
  })
})

describe.each(postgresVersions)('a database of PostgreSQL %s', (version) => {
  it.each([
    ['LATIN1', 'caf\\351', 'café'],
    ['SQL_ASCII', 'caf\\303\\251', 'café'],
    ['EUC_JP', '\\264\\301', '漢'],
  ])('whose encoding is %s gives the same bytes, UTF-8, when captured as when read', async (encoding, bytes, text) => {
    const home = await testDatabase({ version, migrated: false })
    const name = `enc_${uniqueName()}`
    await home.pool.query(`create database ${name} template template0 encoding '${encoding}' locale 'C'`)
    const url = new URL(home.url)
    url.pathname = `/${name}`
    try {
      await migrate(url.href)
      const client = await connect({ ...home, url: url.href, name })
      try {
        await client.query(`set client_encoding = ${encoding}; create table words (id int primary key, word text)`)
        const source = await resolve(client, { from: 'words', key: ['word', 'id'], value: 'word' })
        await attach(client, [source])
        const first = await cut(client, [source])
        await client.query(
          `insert into words values (1, E'${bytes}'), (2, 'plain'); update words set id = 3 where id = 2`,
        )
        const next = await cut(client, [source])
        expect(
          next.truth[0]
            ?.list()
            .map((entry) => Buffer.from(entry, 'latin1').toString('utf8'))
            .join(),
        ).toContain(`"${text}"`)
        expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
        if (encoding !== 'SQL_ASCII') return
        // Bytes that are no text in any encoding: PostgreSQL takes them, so capture does; a build says that it cannot.
        await client.query(`insert into words values (9, E'\\377')`)
        const to = await currentSnapshot(client)
        await expect(read(windowSource(client, source, { from: next.watermark, to }))).rejects.toMatchObject({
          code: 'SOURCE_CHANGED',
          details: { sqlState: '22021' },
        })
        await expect(cut(client, [source])).rejects.toMatchObject({
          code: 'DEFINITION_INVALID',
          details: { sqlState: '22021' },
        })
      } finally {
        await client.end()
      }
    } finally {
      await home.pool.query(`drop database ${name}`)
    }
  })
})
