import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { attach, detach, listCaptures, preflight } from '../../src/changelog/capture.ts'
import { currentSnapshot, windowSource } from '../../src/changelog/window.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { connect, cut, foldBetween, read, resolve, resolveAndAttach } from './fold.ts'

const PARTED = `
  create table parted (id int primary key, note text) partition by range (id);
  create table parted_low partition of parted for values from (0) to (100);
  create table parted_high partition of parted for values from (100) to (200);
  insert into parted select g, 'note ' || g from generate_series(90, 110) g;`
const PLAIN = `create table plain (id int primary key, note text); insert into plain select g, 'note ' || g from generate_series(1, 9) g;`

describe.each(postgresVersions)('capture on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let client: Client
  beforeAll(async () => {
    database = await testDatabase({ version })
    client = await connect(database)
  })
  afterAll(() => client.end())

  /** A fresh schema with the tables in it, so that tests do not meet. */
  async function fresh(tables: string): Promise<void> {
    await client.query(`drop schema if exists public cascade; create schema public; ${tables}`)
  }

  const ways: readonly (readonly [title: string, tables: string, from: string, miss: string, reason: RegExp])[] = [
    [
      'triggers disabled and enabled again',
      PLAIN,
      'plain',
      `alter table plain disable trigger all; update plain set note = 'missed'; alter table plain enable trigger all;
       alter table plain enable always trigger snapflip_capture; alter table plain enable always trigger snapflip_truncate`,
      /altered \(disabled and enabled again\)/,
    ],
    [
      'triggers disabled and enabled again within one transaction',
      PLAIN,
      'plain',
      `begin; alter table plain disable trigger user; update plain set note = 'missed'; alter table plain enable always trigger snapflip_capture;
       alter table plain enable always trigger snapflip_truncate; commit`,
      /altered/,
    ],
    [
      'triggers that are enabled, but not always',
      PLAIN,
      'plain',
      'alter table plain enable trigger snapflip_capture',
      /not enabled always/,
    ],
    [
      'a trigger dropped',
      PLAIN,
      'plain',
      `drop trigger snapflip_capture on plain; update plain set note = 'missed'`,
      /snapflip_capture is missing/,
    ],
    [
      'a trigger dropped and created again',
      PLAIN,
      'plain',
      `drop trigger snapflip_capture on plain; update plain set note = 'missed';
       create trigger snapflip_capture after insert or update or delete on plain for each row execute function snapflip.capture();
       alter table plain enable always trigger snapflip_capture`,
      /created again/,
    ],
    [
      'the trigger of one partition disabled',
      PARTED,
      'parted',
      `alter table parted_low disable trigger snapflip_capture`,
      /parted_low is not enabled always/,
    ],
    ['TRUNCATE of the table', PLAIN, 'plain', 'truncate plain', /plain was truncated/],
    ['TRUNCATE of one partition', PARTED, 'parted', 'truncate parted_high', /parted_high was truncated/],
    ['TRUNCATE of the partitioned table', PARTED, 'parted', 'truncate parted', /was truncated/],
    [
      'ATTACH PARTITION with rows in it',
      PARTED,
      'parted',
      `create table more (id int primary key, note text); insert into more values (250, 'missed');
       alter table parted attach partition more for values from (200) to (300)`,
      /partition public.more .* was attached/,
    ],
    [
      'a new partition',
      PARTED,
      'parted',
      'create table more partition of parted for values from (200) to (300)',
      /partition public.more .* was attached or created/,
    ],
    [
      'DETACH PARTITION',
      PARTED,
      'parted',
      'alter table parted detach partition parted_high',
      /parted_high .* was detached/,
    ],
    [
      'DETACH and ATTACH of the same partition',
      PARTED,
      'parted',
      `alter table parted detach partition parted_high; update parted_high set note = 'missed';
       alter table parted attach partition parted_high for values from (100) to (200)`,
      /parted_high was created again/,
    ],
    ['DROP and CREATE of the table', PLAIN, 'plain', `drop table plain; ${PLAIN}`, /dropped and created again/],
    [
      'values rewritten by ALTER COLUMN to the same type',
      PLAIN,
      'plain',
      `alter table plain alter column note type text using note || '!'`,
      /were altered/,
    ],
    ['a table made unlogged', PLAIN, 'plain', 'alter table plain set unlogged', /not a permanent table/],
    [
      'inheritance children added',
      PLAIN,
      'plain',
      `create table child () inherits (plain); insert into child values (77, 'missed')`,
      /child .* attached or created/,
    ],
  ]
  it.each(ways)('%s: the next build is a full one, and says why', async (_title, tables, from, miss, reason) => {
    await fresh(tables)
    const definition = { from, key: 'id', value: ['note'] }
    const before = await resolveAndAttach(client, definition)
    const first = await cut(client, [before])
    expect(await preflight(client, [before], first.watermark, await currentSnapshot(client))).toEqual([
      { table: `public.${from}`, ok: true },
    ])
    await client.query(miss)

    const to = await currentSnapshot(client)
    const source = await resolve(client, {
      ...definition,
      ...(miss.includes('unlogged') ? { capture: 'none' as const } : {}),
    }).then((now) => ('captured' in now ? { ...now, captured: true } : now))
    const [found] = await preflight(client, [source], first.watermark, to)
    expect(found).toMatchObject({ ok: false, reason: expect.stringMatching(reason) as string })
    await expect(read(windowSource(client, source, { from: first.watermark, to }))).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringMatching(reason) as string,
    })
    // A source resolved before the change is not read either.
    await expect(read(windowSource(client, before, { from: first.watermark, to }))).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
    })
    if (miss.includes('unlogged')) return

    await attach(client, [source])
    const full = await cut(client, [source])
    await client.query(
      `update ${from} set note = note || ' later'; insert into ${from} values (5000 % 199, 'new') on conflict do nothing`,
    )
    const next = await cut(client, [source])
    expect((await foldBetween(client, source, 0, full, next)).list()).toEqual(next.truth[0]?.list())
    expect(await preflight(client, [source], full.watermark, await currentSnapshot(client))).toMatchObject([
      { ok: true },
    ])
  })

  it('stays incremental across VACUUM FULL, CLUSTER, ANALYZE, REINDEX and a new index, which change no row', async () => {
    await fresh(PLAIN)
    const source = await resolveAndAttach(client, { from: 'plain', key: 'id', value: ['note'] })
    const first = await cut(client, [source])
    for (const statement of [
      'vacuum full plain',
      'cluster plain using plain_pkey',
      'analyze plain',
      'reindex table plain',
      'create index on plain (note)',
      'vacuum full pg_trigger',
      'vacuum full pg_attribute',
      `delete from plain where id = 3`,
    ]) {
      await client.query(statement)
    }
    const next = await cut(client, [source])
    expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
  })

  it('captures writes to a partition by name, and by sessions that replicate', async () => {
    await fresh(PARTED)
    const source = await resolveAndAttach(client, { from: 'parted', key: 'id', value: ['note'] })
    const first = await cut(client, [source])
    await client.query(
      `set session_replication_role = replica; insert into parted values (1, 'replicated'); update parted_high set note = 'by name'; reset session_replication_role`,
    )
    const next = await cut(client, [source])
    expect(next.truth[0]?.list().join()).toContain('replicated')
    expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
  })

  it('captures what logical replication applies', async () => {
    const publisher = await testDatabase({ version, migrated: false })
    const table = 'create table replicated (id int primary key, note text)'
    await fresh(table)
    await publisher.pool.query(
      `${table}; insert into replicated values (1, 'at first'); create publication all_of_it for table replicated`,
    )
    // One server replicates to itself: the slot must exist before the subscription.
    await publisher.pool.query(`select pg_create_logical_replication_slot('${publisher.name}', 'pgoutput')`)
    const source = await resolveAndAttach(client, { from: 'replicated', key: 'id', value: ['note'] })
    const first = await cut(client, [source])
    await client.query(
      `create subscription sub_${publisher.name} connection '${publisher.url}' publication all_of_it with (create_slot = false, slot_name = '${publisher.name}')`,
    )
    try {
      const until = async (condition: string) => {
        await expect
          .poll(async () => (await client.query(`select ${condition} as yes`)).rows[0].yes, { timeout: 30_000 })
          .toBe(true)
      }
      await until('(select count(*) = 1 from replicated)')
      await publisher.pool.query(
        `insert into replicated values (2, 'second'); update replicated set note = 'changed' where id = 1`,
      )
      await until(`(select count(*) = 2 and bool_or(note = 'changed') from replicated)`)
      const next = await cut(client, [source])
      expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
      await publisher.pool.query('truncate replicated')
      await until('(select count(*) = 0 from replicated)')
      expect(await preflight(client, [source], first.watermark, await currentSnapshot(client))).toMatchObject(
        [{ ok: false, reason: /truncated/ }].map(() => ({ ok: false })),
      )
    } finally {
      await client.query(`drop subscription sub_${publisher.name}`)
    }
  })

  it('reads and writes names that need quotes', async () => {
    await fresh(`create schema if not exists "Odd ""Schema"; drop table if exists "Odd ""Schema"."My Table";
      create table "Odd ""Schema"."My Table" ("Key Col" int primary key, "va""lue" text, "select" int); insert into "Odd ""Schema"."My Table" values (1, 'a', 2)`)
    const source = await resolveAndAttach(client, {
      from: '"Odd ""Schema"."My Table"',
      key: 'Key Col',
      value: ['va"lue', 'select'],
      where: '"My Table"."select" > 0',
    })
    const first = await cut(client, [source])
    await client.query(`update "Odd ""Schema"."My Table" set "va""lue" = 'b'`)
    const next = await cut(client, [source])
    expect(next.truth[0]?.list().join()).toContain(`{"va\\"lue":"b","select":2}`)
    expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
    expect(await detach(client, ['"Odd ""Schema"."My Table"'])).toEqual(['"Odd ""Schema"."My Table"'])
    await client.query('drop schema "Odd ""Schema" cascade')
  })

  it('attaches once for many indexes, leaves working capture alone, and detaching leaves nothing behind', async () => {
    await fresh(PLAIN + PARTED)
    const sources = [
      await resolve(client, { from: 'plain', key: 'id', value: 'note' }, 'a'),
      await resolve(client, { from: 'plain', key: 'note', value: 'id', many: true }, 'b'),
      await resolve(client, { from: 'parted', key: 'id', value: 'note' }, 'c'),
      await resolve(client, { from: 'parted_low', key: 'id', value: 'note' }, 'd'),
    ]
    expect((await attach(client, sources)).map(({ changed }) => changed)).toContain(true)
    expect((await attach(client, sources)).every(({ changed }) => !changed)).toBe(true)
    const first = await cut(client, sources)
    await client.query(
      `update plain set note = 'x'; update parted set note = 'y'; alter table parted detach partition parted_high`,
    )
    const next = await cut(client, [sources[0] as (typeof sources)[0], sources[3] as (typeof sources)[0]])
    expect((await foldBetween(client, sources[3] as (typeof sources)[0], 3, first, next)).list()).toEqual(
      next.truth[1]?.list(),
    )

    expect(
      await detach(
        client,
        (await listCaptures(client)).map(({ name }) => name),
      ),
    ).toEqual(expect.arrayContaining(['public.parted', 'public.parted_low', 'public.plain']))
    const left =
      await client.query(`select 'trigger ' || tgname || tgrelid::regclass from pg_trigger t join pg_proc p on p.oid = tgfoid where p.pronamespace = 'snapflip'::regnamespace
        and p.proname like 'capture%' union all select 'change' from snapflip.changelog c join pg_class r on r.oid = c.relid where r.relnamespace = 'public'::regnamespace union all select name from snapflip.captures`)
    expect(left.rows).toEqual([])
  })

  it('attaches while a long transaction is in the way, without holding up writers for long', async () => {
    await fresh(PLAIN)
    const [holder, writer] = [await connect(database), await connect(database)]
    await holder.query(`begin; update plain set note = 'held' where id = 1`)
    const source = await resolve(client, { from: 'plain', key: 'id', value: 'note' })
    const attaching = attach(client, [source])
    await expect
      .poll(
        async () =>
          (
            await writer.query(
              `select count(*)::int as n from pg_locks where relation = 'plain'::regclass and not granted`,
            )
          ).rows[0].n,
      )
      .toBe(1)
    // Waits behind CREATE TRIGGER until its lock_timeout, and no longer.
    await writer.query(`set statement_timeout = 10000; update plain set note = 'written' where id = 2`)
    await holder.query('commit')
    expect(await attaching).toEqual([{ table: 'public.plain', changed: true }])
    await Promise.all([holder.end(), writer.end()])
  })

  it('never makes a write fail, whatever DDL comes between, and notices it before building', async () => {
    const changes: readonly (readonly [ddl: string, reason: RegExp])[] = [
      ['alter table shaped add column extra int default 5', /extra is new/],
      ['alter table shaped drop column gone', /gone is gone/],
      ['alter table shaped rename column note to remark', /note is gone/],
      ['alter table shaped alter column amount type numeric(20, 3)', /amount was numeric\(10,2\)/],
      [`alter type mood add value 'glad' before 'sad'`, /type public.mood/],
      [`alter type mood rename value 'sad' to 'blue'`, /type public.mood/],
      ['alter domain positive drop constraint positive_check', /type public.positive/],
      ['alter type pair add attribute c int', /type public.pair/],
      ['alter table shaped rename to shaped_now; create table shaped (like shaped_now including all)', /another table/],
    ]
    for (const [ddl, reason] of changes) {
      await fresh(`create type mood as enum ('sad', 'ok'); create domain positive as int constraint positive_check check (value > 0); create type pair as (a int, b text);
        create table shaped (id int primary key, note text, gone int, amount numeric(10, 2), mood mood, p positive, pair pair);
        insert into shaped values (1, 'a', 2, 3.5, 'sad', 4, row(1, 'x'))`)
      const definition = { from: 'shaped', key: 'id', value: 'shaped' }
      const source = await resolveAndAttach(client, definition)
      const first = await cut(client, [source])
      await client.query('update shaped set id = id + 1')
      await client.query(ddl)
      await client.query(
        'update shaped set id = id + 1; insert into shaped (id) values (9); delete from shaped where id = 9',
      )
      const to = await currentSnapshot(client)
      const now = await resolve(client, definition)
      expect(await preflight(client, [now], first.watermark, to), ddl).toMatchObject([
        { ok: false, reason: expect.stringMatching(reason) as string },
      ])
      for (const candidate of [source, now]) {
        await expect(read(windowSource(client, candidate, { from: first.watermark, to })), ddl).rejects.toMatchObject({
          code: 'SOURCE_CHANGED',
        })
      }
    }
  })

  it('keeps the record as PostgreSQL writes it, whatever casts its type has been given', async () => {
    await fresh(`${PLAIN} create function shout(plain) returns text language sql as $$ select upper($1.note) $$;
      create cast (plain as text) with function shout(plain)`)
    const source = await resolveAndAttach(client, { from: 'plain', key: 'id', value: ['note'] })
    const first = await cut(client, [source])
    await client.query(`update plain set note = 'new' where id = 1; delete from plain where id = 2`)
    const next = await cut(client, [source])
    expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
    await client.query(
      `create function hear(text) returns plain language sql as $$ select null::plain $$; create cast (text as plain) with function hear(text)`,
    )
    await expect(resolve(client, { from: 'plain', key: 'id', value: ['note'] })).rejects.toMatchObject({
      code: 'DEFINITION_INVALID',
      message: expect.stringMatching(/cast from text to public\.plain/) as string,
    })
  })

  it('captures what roles write that have no right on anything of snapflip', async () => {
    await fresh(PLAIN)
    const source = await resolveAndAttach(client, { from: 'plain', key: 'id', value: ['note'] })
    const first = await cut(client, [source])
    const role = `writer_${database.name}`
    await client.query(
      `create role ${role}; grant usage on schema public to ${role}; grant all on plain to ${role}; set role ${role}`,
    )
    try {
      await client.query(
        `insert into plain values (50, 'x'); update plain set note = 'y' where id < 4; delete from plain where id = 5`,
      )
    } finally {
      await client.query(`reset role; drop owned by ${role}; drop role ${role}`)
    }
    const next = await cut(client, [source])
    expect(next.truth[0]?.list().join()).toContain('{"note":"y"}')
    expect((await foldBetween(client, source, 0, first, next)).list()).toEqual(next.truth[0]?.list())
  })

  it('captures what comes by COPY, MERGE, upsert, a view, a rule and the cascades of foreign keys', async () => {
    await fresh(`create table parent (id int primary key);
      create table child (id int primary key, parent int references parent on delete cascade on update cascade, other int default 1 references parent on delete set default);
      insert into parent select generate_series(1, 9); insert into child select g, g, g from generate_series(2, 9) g;
      create view half as select * from child where id < 100;
      create table diverted (id int); create rule divert as on insert to diverted do instead insert into child values (new.id, 1, 1)`)
    const source = await resolveAndAttach(client, { from: 'child', key: 'id', value: 'child' })
    let from = await cut(client, [source])
    for (const statement of [
      'update child set other = 1 where id = 3; delete from parent where id = 2',
      'update parent set id = 30 where id = 3',
      'update child set other = 4 where id > 4; delete from parent where id = 4',
      `merge into child c using (values (5, 6), (70, 1)) s (id, parent) on s.id = c.id when matched then update set parent = s.parent when not matched then insert values (s.id, s.parent)`,
      'insert into child values (5, 1) on conflict (id) do update set parent = excluded.parent',
      'insert into half values (80, 1, 1); update half set other = 5 where id = 80; delete from half where id = 70',
      'insert into diverted values (90)',
      `copy child from program 'printf "95\\t1\\t1\\n"'`,
    ]) {
      await client.query(statement)
      const to = await cut(client, [source])
      expect(to.truth[0]?.list(), statement).not.toEqual(from.truth[0]?.list())
      expect((await foldBetween(client, source, 0, from, to)).list(), statement).toEqual(to.truth[0]?.list())
      from = to
    }
  })

  // Version 17 is the first to have it.
  const itOn18 = version === '18' ? it : () => undefined
  itOn18(
    'notices that a generated column was given another expression, which rewrites rows without a trigger',
    async () => {
      await fresh(
        'create table plain (id int primary key, twice int generated always as (id * 2) stored); insert into plain values (1)',
      )
      const source = await resolveAndAttach(client, { from: 'plain', key: 'id', value: 'twice' })
      const first = await cut(client, [source])
      await client.query('alter table plain alter column twice set expression as (id * 3)')
      const now = await resolve(client, { from: 'plain', key: 'id', value: 'twice' })
      expect(await preflight(client, [now], first.watermark, await currentSnapshot(client))).toMatchObject([
        { ok: false },
      ])
    },
  )
})
