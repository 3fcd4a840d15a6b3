import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { attach } from '../../src/changelog/capture.ts'
import type { Source } from '../../src/changelog/source.ts'
import { windowSource } from '../../src/changelog/window.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { type Cut, connect, copy, cut, type Fold, read, resolve } from './fold.ts'

const WINDOWS = 220
/** Windows that reach over so many others are read too, forwards and backwards. */
const STRIDE = 20
const ACCOUNTS = 60
const OPENING = 1000

const SCHEMA = `
  create table accounts (
    id int primary key, owner text, balance numeric(12, 2) not null, at timestamptz default now(), day date, span tstzrange,
    wait interval, ratio float8, raw bytea);
  insert into accounts select g, 'owner ' || g % 7, ${OPENING}, now(), current_date, tstzrange(now(), now() + interval '1 day'),
    interval '1 mon 2 days', 1 / 3.0, '\\x00ff' from generate_series(1, ${ACCOUNTS}) g;

  create table ledger (id bigint generated always as identity, region int not null, amount numeric(12, 2) not null, note text,
    primary key (id, region)) partition by list (region);
  create table ledger_north partition of ledger for values in (0, 1);
  create table ledger_south (note text, gone int, amount numeric(12, 2) not null, region int not null, id bigint not null);
  alter table ledger_south drop column gone;
  alter table ledger attach partition ledger_south for values in (2, 3);

  create table slots (id int primary key, place int unique deferrable initially deferred);
  insert into slots select g, g from generate_series(1, 20) g;

  create table racers (id int primary key, lane text);
  insert into racers select g, 'lane ' || g from generate_series(1, 8) g;

  -- A user's own trigger that writes the row once more, and whose name sorts before ours.
  create table counted (id int primary key, n int, touched int default 0);
  insert into counted select g, 0 from generate_series(1, 10) g;
  create function touch() returns trigger language plpgsql as $$
    begin
      if new.n <> old.n then update counted set touched = touched + 1 where id = new.id; end if;
      return null;
    end $$;
  create trigger a_touch after update on counted for each row execute function touch();

  -- What moves amounts locks its rows first, so that the sum over both tables stays what it is.
  create function transfer(amount numeric) returns void language plpgsql as $$
    declare pair int[];
    begin
      select array_agg(id) into pair from (select id from public.accounts order by random() limit 2 for update) p;
      if cardinality(pair) < 2 then return; end if;
      update public.accounts set balance = balance - amount, at = now(), ratio = random() where id = pair[1];
      update public.accounts set balance = balance + amount, span = tstzrange(now(), null), wait = wait + '1:02:03.5' where id = pair[2];
    end $$;
  create function book(to_region int, text) returns void language plpgsql as $$
    declare account int;
    begin
      select id into account from public.accounts order by random() limit 1 for update;
      if account is null then return; end if;
      update public.accounts set balance = balance - 11 where id = account;
      insert into public.ledger (region, amount, note) values (to_region, 11, $2);
    end $$;
  create function book_back() returns void language plpgsql as $$
    declare account int; entry record;
    begin
      select id into account from public.accounts order by random() limit 1 for update;
      select * into entry from public.ledger order by random() limit 1 for update;
      if account is null or entry.id is null then return; end if;
      delete from public.ledger where id = entry.id;
      update public.accounts set balance = balance + entry.amount where id = account;
    end $$;
  create function delete_and_insert() returns void language plpgsql as $$
    declare account public.accounts;
    begin
      select * into account from public.accounts order by random() limit 1 for update;
      if account.id is null then return; end if;
      delete from public.accounts where id = account.id;
      insert into public.accounts select account.*;
    end $$;
  create function swap(a int, b int) returns void language plpgsql as $$
    declare place_a int; place_b int;
    begin
      perform from public.slots where id in (a, b) order by id for update;
      select place into place_a from public.slots where id = a;
      select place into place_b from public.slots where id = b;
      update public.slots set place = place_b where id = a;
      update public.slots set place = place_a where id = b;
    end $$;
`

/** None of these may change what is captured. */
const SESSIONS = [
  `set timezone = 'Asia/Kolkata'`,
  `set datestyle = 'SQL, DMY'; set timezone = 'America/St_Johns'`,
  `set datestyle = 'German'; set intervalstyle = 'iso_8601'`,
  `set intervalstyle = 'sql_standard'; set extra_float_digits = -15`,
  `set bytea_output = 'escape'; set extra_float_digits = 0`,
  `set search_path = snapflip, public`,
  `set quote_all_identifiers = on; set session_replication_role = replica`,
  `set default_transaction_isolation = 'serializable'`,
] as const

const pause = (maxMs: number) => new Promise((resume) => setTimeout(resume, random(maxMs)))
const random = (below: number) => Math.floor(Math.random() * below)

describe.each(postgresVersions)('the changelog of PostgreSQL %s', (version) => {
  let database: TestDatabase
  let builder: Client
  let sources: Source[]
  let stopped = false
  const writers: Promise<void>[] = []
  const done = new Map<string, number>()

  beforeAll(async () => {
    database = await testDatabase({ version })
    builder = await connect(database)
    await builder.query(SCHEMA)
    const definitions: Record<string, Parameters<typeof resolve>[1]> = {
      accounts: {
        from: 'accounts',
        key: 'id',
        value: ['id', 'owner', 'balance', 'at', 'day', 'span', 'wait', 'ratio', 'raw'],
      },
      owners: { from: 'accounts', key: 'owner', value: ['balance'], many: true, order: 'id' },
      rich: { from: 'accounts', key: ['owner', 'id'], value: 'accounts', where: `balance > ${OPENING}` },
      ledger: { from: 'ledger', key: ['region', 'id'], value: ['amount', 'note'] },
      places: { from: 'slots', key: 'place', value: ['id'] },
      lanes: { from: 'racers', key: 'lane', value: ['id'] },
      counted: { from: 'counted', key: 'id', value: ['n', 'touched'] },
      labels: { events: true },
    }
    sources = []
    for (const [index, definition] of Object.entries(definitions))
      sources.push(await resolve(builder, definition, index))
    await attach(builder, sources)
    for (const [n, session] of SESSIONS.entries()) writers.push(write(n, session))
  })

  afterAll(async () => {
    stopped = true
    await Promise.all(writers)
    await builder.end()
  })

  async function write(writer: number, session: string): Promise<void> {
    const client = await connect(database)
    await client.query(session)
    await client.query('set lock_timeout = 300')
    const transfer = () => `select public.transfer(${1 + random(900)} / 100.0)`
    let prepared = 0
    const actions: Record<string, () => Promise<unknown>> = {
      transfer: () => client.query(transfer()),
      'transfer in an open transaction': async () => {
        await client.query(`begin; ${transfer()}`)
        await pause(60)
        await client.query(random(3) === 0 ? 'rollback' : 'commit')
      },
      'transfer with savepoints': () =>
        client.query(
          `begin; ${transfer()}; savepoint a; ${transfer()}; rollback to a; savepoint b; ${transfer()}; release b; commit`,
        ),
      'prepare a transaction': async () => {
        const gid = `${database.name} ${writer} ${prepared++}`
        await client.query(`begin; ${transfer()}`)
        await client.query(`prepare transaction '${gid}'`)
        await pause(80)
        await client.query(random(2) === 0 ? `commit prepared '${gid}'` : `rollback prepared '${gid}'`)
      },
      'book into the ledger': () => client.query(`select public.book(${random(4)}, E'it''s "(${writer},\\\\ ')`),
      'book back': () => client.query('select public.book_back()'),
      'move between partitions': () =>
        client.query(
          `update public.ledger set region = ${random(4)} where id = (select id from public.ledger order by random() limit 1)`,
        ),
      'move a key': () =>
        client.query(`update public.accounts set id = id + ${ACCOUNTS} where id = ${1 + random(ACCOUNTS)}`),
      'move a key back': () =>
        client.query(
          `update public.accounts set id = id - ${ACCOUNTS} where id = (select max(id) from public.accounts) and id > ${ACCOUNTS}`,
        ),
      'delete and insert again': () => client.query('select public.delete_and_insert()'),
      'swap keys': () => client.query(`select public.swap(${1 + random(10)}, ${11 + random(10)})`),
      'race for a key': () =>
        client.query(`update public.racers set lane = 'lane ' || ${random(4)} where id = ${1 + random(8)}`),
      'count up': () => client.query(`update public.counted set n = n + 1 where id = ${1 + random(10)}`),
      'append events': () =>
        client.query(`begin; select snapflip.append('shop', 'labels', 'key ${random(12)}', ${random(4) === 0 ? 'null' : `'{"n": ${random(1e6)}}'`});
          ${random(4) === 0 ? 'rollback' : 'commit'}`),
    }
    const names = Object.keys(actions)
    while (!stopped) {
      const name = names[random(names.length)] as string
      // So that the builder gets its share of a small machine.
      await pause(20)
      try {
        await actions[name]?.()
        done.set(name, (done.get(name) ?? 0) + 1)
      } catch {
        // Deadlocks, lock time-outs and serialisation failures are part of it.
        await client.query('rollback')
      }
    }
    await client.end()
  }

  it(`is equal to the tables in each of ${WINDOWS} snapshots, forwards, backwards and over many windows at once`, {
    timeout: 600_000,
  }, async () => {
    const cuts: Cut[] = [await cut(builder, sources)]
    // Folded on from the first cut for ever; nothing is taken from the later truths.
    const state = (cuts[0] as Cut).truth.map(copy)
    let folded = 0
    for (let window = 1; window <= WINDOWS; window++) {
      const from = cuts[window - 1] as Cut
      const to = await cut(builder, sources)
      cuts.push(to)
      for (const [n, source] of sources.entries()) {
        const before = state[n]?.entries ?? 0
        await read(windowSource(builder, source, { from: from.watermark, to: to.watermark.snapshot }), state[n])
        folded += (state[n]?.entries ?? 0) - before
        expect(state[n]?.list(), `${source.index}, window ${window}`).toEqual(to.truth[n]?.list())
      }
      let sum = 0
      for (const { balance } of state[0]?.values() ?? []) sum += Math.round(Number(balance) * 100)
      for (const { amount } of state[3]?.values() ?? []) sum += Math.round(Number(amount) * 100)
      expect(sum, `amounts, window ${window}`).toBe(ACCOUNTS * OPENING * 100)
      if (window % STRIDE === 0) {
        const past = cuts[window - STRIDE] as Cut
        for (const [n, source] of sources.entries()) {
          if (source.kind === 'events') continue
          const back = await read(
            windowSource(builder, source, { from: past.watermark, to: to.watermark.snapshot }, { reverse: true }),
            copy(to.truth[n] as Fold),
          )
          expect(back.list(), `${source.index}, back ${STRIDE} windows`).toEqual(past.truth[n]?.list())
        }
      }
    }
    // What was tested must have happened.
    expect(folded).toBeGreaterThan(WINDOWS)
    expect([...done].filter(([, times]) => times < 3)).toEqual([])
    expect(cuts.some(({ watermark }) => !watermark.snapshot.endsWith(':'))).toBe(true)
  })
})
