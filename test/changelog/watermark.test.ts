import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { watermarkSchema } from '../../schemas/manifest.ts'
import { append } from '../../src/changelog/append.ts'
import { changedKeys, lastChange } from '../../src/changelog/explain.ts'
import { prune } from '../../src/changelog/prune.ts'
import { planRanges } from '../../src/changelog/ranges.ts'
import { readKeys, sampleSource } from '../../src/changelog/sample.ts'
import { countSource, scanSource } from '../../src/changelog/scan.ts'
import { connectBuilder, inSnapshot } from '../../src/changelog/session.ts'
import { inWatermark, takeWatermark, watermarkStillThere } from '../../src/changelog/watermark.ts'
import { currentSnapshot, windowSize, windowSource } from '../../src/changelog/window.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { connect, copy, cut, Fold, foldBetween, read, resolve, resolveAndAttach } from './fold.ts'

const never = new AbortController().signal

describe.each(postgresVersions)('a watermark on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let client: Client
  let other: Client
  beforeAll(async () => {
    database = await testDatabase({ version })
    client = await connectBuilder(database.url)
    other = await connect(database)
  })
  afterAll(() => Promise.all([client.end(), other.end()]))

  async function fresh(rows = 9) {
    await other.query(`drop schema if exists public cascade; create schema public; create table items (id int primary key, label text, size int);
      insert into items select g, 'label ' || g % 7, g from generate_series(1, ${rows}) g; truncate snapflip.events`)
    return resolveAndAttach(client, { from: 'public.items', key: 'id', value: ['label', 'size'] })
  }

  it('is anchored: its row has an xid not below the xmax of its snapshot, and is committed synchronously whatever the session says', async () => {
    const source = await fresh()
    await client.query('set synchronous_commit = off')
    const watermark = await takeWatermark(client, [source])
    expect((await client.query('show synchronous_commit')).rows).toEqual([{ synchronous_commit: 'on' }])
    await client.query('commit; reset synchronous_commit')
    expect(watermarkSchema.parse(watermark)).toEqual(watermark)
    const { rows } = await client.query(
      `select xid >= pg_snapshot_xmax(snapshot) as anchored, snapshot::text from snapflip.watermarks where id = $1`,
      [watermark.id],
    )
    expect(rows).toEqual([{ anchored: true, snapshot: watermark.snapshot }])
    await expect(
      client.query(`insert into snapflip.watermarks (id, snapshot, xid, nonce, system, at, kind, facts)
        select gen_random_uuid(), snapshot, (pg_snapshot_xmax(snapshot)::text::bigint - 1)::text::xid8, nonce, system, at, kind, facts from snapflip.watermarks limit 1`),
    ).rejects.toMatchObject({ code: '23514' })
  })

  it('counts only once it is committed', async () => {
    const source = await fresh()
    const watermark = await takeWatermark(client, [source])
    expect(await watermarkStillThere(other, watermark)).toBe(false)
    await client.query('rollback')
    expect(await watermarkStillThere(client, watermark)).toBe(false)
    const kept = await inWatermark(client, [source], 'version', (at) => Promise.resolve(at))
    expect(await watermarkStillThere(other, kept)).toBe(true)
  })

  it('of another history is recognised by its nonce, snapshot, system and row; nothing is read upon it', async () => {
    const source = await fresh()
    const { watermark } = await cut(client, [source])
    const to = await currentSnapshot(client)
    for (const forged of [
      { nonce: '0'.repeat(32) },
      { system: '1/1' },
      { snapshot: '3:3:' },
      { id: '00000000-0000-4000-8000-000000000000' },
    ]) {
      const lost = { ...watermark, ...forged }
      expect(await watermarkStillThere(client, lost)).toBe(false)
      await expect(read(windowSource(client, source, { from: lost, to }))).rejects.toMatchObject({
        code: 'LINEAGE_BROKEN',
      })
    }
  })

  it('locks its tables before it takes its snapshot: a TRUNCATE in between cannot make a table look empty', async () => {
    const source = await fresh()
    await other.query('begin; truncate items')
    const cutting = cut(client, [source])
    await expect
      .poll(
        async () =>
          (
            await database.pool.query(
              `select count(*)::int as n from pg_locks where relation = 'public.items'::regclass and not granted`,
            )
          ).rows[0].n,
      )
      .toBe(1)
    await other.query(`insert into items values (1, 'after', 1); commit`)
    const { truth } = await cutting
    expect([...(truth[0]?.values() ?? [])]).toEqual([{ label: 'after', size: 1 }])
  })

  it('refuses a table without working capture, or that changed since it was resolved', async () => {
    const source = await fresh()
    await other.query('alter table items add column more int')
    await expect(takeWatermark(client, [source])).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringMatching(/more is new/) as string,
    })
    const now = await resolve(client, { from: 'public.items', key: 'id', value: 'label' })
    await other.query('alter table items disable trigger snapflip_capture')
    await expect(takeWatermark(client, [now])).rejects.toMatchObject({ code: 'NOT_APPLIED' })
    expect((await client.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  })

  it('lets changes of transactions that were open in it come with the next window, and no other', async () => {
    const source = await fresh()
    await other.query(`begin; update items set label = 'open' where id = 1`)
    const first = await cut(client, [source])
    expect(await windowSize(client, [source], { from: first.watermark, to: first.watermark.snapshot })).toBe(0)
    const second = await cut(client, [source])
    expect((await foldBetween(client, source, 0, first, second)).list()).toEqual(second.truth[0]?.list())
    await other.query('commit')
    const third = await cut(client, [source])
    expect(await windowSize(client, [source], { from: second.watermark, to: third.watermark.snapshot })).toBe(1)
    expect((await foldBetween(client, source, 0, second, third)).list()).toEqual(third.truth[0]?.list())
    expect(third.truth[0]?.list().join()).toContain('open')
  })

  it('lets a full build in ranges, each at its own snapshot, come to the state of the last watermark', async () => {
    await other.query(`drop schema if exists public cascade; create schema public;
      create table items (kind text collate "C", id int, label text, primary key (kind, id));
      insert into items select chr(97 + g % 5), g, 'label ' || g from generate_series(1, 500) g`)
    const source = await resolveAndAttach(client, {
      from: 'public.items',
      key: ['kind', 'id'],
      value: ['label'],
      where: 'id % 50 <> 3',
    })
    const ranges = await planRanges(client, source, 60)
    expect(ranges).toHaveLength(9)
    expect([ranges[0]?.from, ranges.at(-1)?.to]).toEqual([null, null])
    const chunks = []
    for (const range of ranges) {
      const entries = new Fold()
      const from = await inWatermark(client, [source], 'chunk', async (at) => {
        await read(scanSource(client, source, range), entries)
        return at
      })
      chunks.push({ range, from, entries })
      // Rows move between ranges, forth and back, vanish and come; A becomes B becomes A.
      await other.query(`update items set kind = chr(97 + (ascii(kind) - 96) % 5) where id % 7 = 2; update items set label = 'b' where id = 5;
        update items set label = 'label 5' where id = 5; delete from items where id = ${100 + chunks.length}; insert into items values ('${'abcde'[chunks.length % 5]}', ${900 + chunks.length}, 'new');
        update items set id = -id where id % 11 = 1`)
    }
    const last = await cut(client, [source])
    const whole = new Fold()
    for (const { range, from, entries } of chunks) {
      await read(windowSource(client, source, { from, to: last.watermark.snapshot }, { range }), entries)
      for (const [text, count] of entries.counts) whole.counts.set(text, (whole.counts.get(text) ?? 0) + count)
    }
    expect(whole.list()).toEqual(last.truth[0]?.list())
  })

  it('cuts a table without a primary key, an empty one and a view into one range', async () => {
    await fresh(0)
    await other.query('create table keyless (id int); create view seen as select * from items')
    for (const from of ['public.items', 'public.keyless', 'public.seen']) {
      const source = await resolve(client, { from, key: 'id', value: 'id', capture: 'none' })
      expect(await planRanges(client, source, 10)).toEqual([{ from: null, to: null }])
      expect((await read(windowlessScan(source))).counts.size).toBe(0)
    }
    function windowlessScan(source: Awaited<ReturnType<typeof resolve>>) {
      return scanSource(client, source, { from: null, to: null })
    }
  })

  it('gives the last event of a key, in the application’s transaction, from SQL and from the SDK', async () => {
    await fresh()
    const source = await resolve(client, { events: true })
    const first = await cut(client, [source])
    await append(other, 'shop', 'index', 'a', { n: 1 })
    await append(other, 'shop', 'index', ['b', 'c'], [1, 'zwei'])
    await append(other, 'shop', 'index', 'gone', true)
    await append(other, 'shop', 'other', 'a', 'not this index')
    await other.query('begin')
    await append(other, 'shop', 'index', 'a', { n: 'rolled back' })
    await other.query('rollback')
    const second = await cut(client, [source])
    await other.query(`select snapflip.append('shop', 'index', 'a', '{"n": 2}'), snapflip.append('shop', 'index', 'gone', null),
      snapflip.append('shop', 'index', array['b', 'c'], to_jsonb(3)), snapflip.append('shop', 'index', 'json'::text, json '{"x":  null}')`)
    await append(other, 'shop', 'index', 'a', 'last')
    const third = await cut(client, [source])
    expect([...(third.truth[0]?.values() ?? [])].map((value) => JSON.stringify(value)).sort()).toEqual([
      '"last"',
      '3',
      '{"x":null}',
    ])
    expect((await foldBetween(client, source, 0, first, second)).list()).toEqual(second.truth[0]?.list())
    expect((await foldBetween(client, source, 0, second, third)).list()).toEqual(third.truth[0]?.list())
    expect((await foldBetween(client, source, 0, first, third)).list()).toEqual(third.truth[0]?.list())
  })

  it('makes appends to one key wait for each other, so that the last to commit has the last word', async () => {
    await fresh()
    const source = await resolve(client, { events: true })
    const late = await connect(database)
    await other.query('begin')
    await append(other, 'shop', 'index', 'k', 'first')
    const waiting = append(late, 'shop', 'index', 'k', 'second')
    await expect
      .poll(
        async () =>
          (await database.pool.query(`select count(*)::int as n from pg_locks where not granted and database is null`))
            .rows[0].n,
      )
      .toBe(1)
    await other.query('commit')
    await waiting
    expect([...((await cut(client, [source])).truth[0]?.values() ?? [])]).toEqual(['second'])
    await late.end()
  })

  it.each([
    [`'shop', 'index', null::text, '1'`, '22004'],
    [`'shop', 'index', array['a', null], '1'`, '22004'],
    [`'shop', 'index', '{}'::text[], '1'`, '22004'],
    [`'shop', 'index', '', '1'`, '22026'],
    [`'shop', 'index', repeat('x', 70000), '1'`, '22026'],
    [`'shop', 'index', 'k', '{"not json'`, '22P02'],
  ])('refuses append(%s)', async (list, code) => {
    await expect(other.query(`select snapflip.append(${list})`)).rejects.toMatchObject({ code })
  })

  it('samples, counts and looks up entries with the bytes of a build', async () => {
    const source = await fresh(3000)
    await other.query('analyze items; insert into items values (0, null, null)')
    const { truth } = await cut(client, [source])
    const all = new Set(truth[0]?.counts.keys())
    const bytes = ({ key, value }: { key: Buffer; value: Buffer }) => {
      const entry = Buffer.alloc(8 + key.length + value.length)
      entry.writeInt32BE(key.length, 0)
      key.copy(entry, 4)
      entry.writeInt32BE(value.length, 4 + key.length)
      value.copy(entry, 8 + key.length)
      return entry.toString('latin1')
    }
    await inSnapshot(client, [], async () => {
      expect(await countSource(client, source)).toBe(3001)
      const sample = await sampleSource(client, source, 100, never)
      expect(sample).toHaveLength(100)
      expect(sample.map(bytes).filter((entry) => !all.has(entry))).toEqual([])
      expect(await sampleSource(client, source, 100_000, never)).toHaveLength(3001)
      const wanted = [...sample.slice(0, 5).map(({ key }) => key), Buffer.from('-1')]
      const found = await readKeys(client, source, wanted, never)
      expect(found?.map(bytes).sort()).toEqual(sample.slice(0, 5).map(bytes).sort())
    })
    const byExpression = await resolve(client, { from: 'public.items', key: `label || ''`, value: 'id' })
    expect(await readKeys(client, byExpression, [Buffer.from('x')], never)).toBeNull()
    const events = await resolve(client, { events: true })
    await append(other, 'shop', 'index', 'e', 1)
    expect(await readKeys(client, events, [Buffer.from('e'), Buffer.from('f')], never)).toEqual([
      { key: Buffer.from('e'), order: null, value: Buffer.from('1') },
    ])
    expect(await sampleSource(client, events, 10, never)).toHaveLength(1)
  })

  it('tells which keys a window changed, and which change of a key was the last', async () => {
    const source = await fresh()
    const { watermark: from } = await cut(client, [source])
    await other.query(
      `update items set label = 'x' where id in (1, 2); update items set id = 20 where id = 2; delete from items where id = 3; update items set label = label where id = 4`,
    )
    const to = await currentSnapshot(client)
    const hex = (key: string) => Buffer.from(key).toString('hex')
    expect([...((await changedKeys(client, source, { from, to }, 10)) ?? [])].sort()).toEqual(
      ['1', '2', '20', '3'].map(hex).sort(),
    )
    expect(await changedKeys(client, source, { from, to }, 3)).toBeNull()
    expect(await lastChange(client, source, Buffer.from('3'), { from, to })).toMatchObject({
      op: 'd',
      table: 'public.items',
    })
    expect(await lastChange(client, source, Buffer.from('20'), { from, to })).toMatchObject({ op: 'u' })
    expect(await lastChange(client, source, Buffer.from('5'), { from, to })).toBeNull()
    const events = await resolve(client, { events: true })
    await append(other, 'shop', 'index', ['a', 'b'], 1)
    const later = await currentSnapshot(client)
    expect(await lastChange(client, events, Buffer.from('a\0b'), { from, to: later })).toMatchObject({
      op: 'e',
      table: null,
    })
    expect(await changedKeys(client, events, { from, to: later }, 10)).toEqual(new Set([hex('a\0b')]))
  })

  it('keeps every change since it for as long as it is kept, and with it goes what only it needed', async () => {
    const source = await fresh()
    const events = await resolve(client, { events: true })
    const first = await cut(client, [source, events])
    await other.query(`update items set label = 'one'`)
    for (const value of [1, 2, null, 3]) await append(other, 'shop', 'index', 'k', value)
    const second = await cut(client, [source, events])
    await other.query(`update items set label = 'two'`)
    const third = await cut(client, [source, events])
    expect(await prune(client, [], never, 0)).toEqual({ changes: 0, events: 0, watermarks: 0 })
    expect(await prune(client, ['00000000-0000-4000-8000-000000000000', third.watermark.id], never, 0)).toMatchObject({
      changes: 0,
    })
    expect(await prune(client, [third.watermark.id], never)).toMatchObject({ changes: 0, watermarks: 0 })
    const pruned = await prune(client, [second.watermark.id], never, 0)
    expect(pruned).toMatchObject({ events: 3 })
    expect(pruned.changes).toBeGreaterThanOrEqual(9)
    expect(await watermarkStillThere(client, first.watermark)).toBe(false)
    expect((await foldBetween(client, source, 0, second, third)).list()).toEqual(third.truth[0]?.list())
    expect((await cut(client, [events])).truth[0]?.list()).toEqual(third.truth[1]?.list())
  })

  it('surfaces a captured row that no longer reads back as a changed source, not as a corrupt entry', async () => {
    await other.query(
      `drop schema if exists public cascade; create schema public; create table t (id int primary key, r regclass); create table gone ()`,
    )
    const source = await resolveAndAttach(client, { from: 'public.t', key: 'id', value: ['r'] })
    const { watermark: from } = await cut(client, [source])
    await other.query(`insert into t values (1, 'gone'); drop table gone`)
    const to = await currentSnapshot(client)
    await expect(read(windowSource(client, source, { from, to }))).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      details: { sqlState: '42P01' },
    })
  })

  it('stops a read when asked, and when the sink fails; a read that PostgreSQL ends leaves the connection usable', async () => {
    const source = await fresh(200_000)
    const failing = await connectBuilder(database.url)
    const sink = copy(new Fold())
    sink.entry = () => {
      throw new Error('the sink is full')
    }
    await expect(
      inWatermark(failing, [source], 'version', () => scanSource(failing, source).read(sink, never)),
    ).rejects.toThrow(/the sink is full/)
    await failing.end().catch(() => undefined)
    const stopping = await connectBuilder(database.url)
    const stop = new AbortController()
    const slow = new Fold()
    slow.entry = () => stop.abort(new Error('cancelled'))
    await expect(
      inWatermark(stopping, [source], 'version', () => scanSource(stopping, source).read(slow, stop.signal)),
    ).rejects.toThrow(/cancelled/)
    await stopping.end().catch(() => undefined)
    const broken = await resolve(client, { from: 'public.items', key: 'id', value: '1 / (id - 150000)' })
    await expect(cut(client, [broken])).rejects.toMatchObject({
      code: 'DEFINITION_INVALID',
      details: { sqlState: '22012' },
    })
    expect((await client.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  })

  it('reads values that are larger than the buffers they come in', async () => {
    await other.query(`drop schema if exists public cascade; create schema public; create table big (id int primary key, v text);
      insert into big select g, repeat(chr(96 + g), g * 700000) from generate_series(1, 9) g`)
    const source = await resolveAndAttach(client, { from: 'public.big', key: 'id', value: 'v' })
    const first = await cut(client, [source])
    expect([...(first.truth[0]?.counts.keys() ?? [])].map((text) => text.length).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 9 }, (_, n) => 11 + (n + 1) * 700_000),
    )
    await other.query(`update big set v = v || '!' where id > 5`)
    const next = await cut(client, [source])
    expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
  })
})
