import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import type { Client } from 'pg'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { append } from '../../src/changelog/append.ts'
import { attach, detach } from '../../src/changelog/capture.ts'
import type { Source } from '../../src/changelog/source.ts'
import { watermarkStillThere } from '../../src/changelog/watermark.ts'
import { type LocalPostgres, startPostgres } from '../../src/local/postgres.ts'
import { migrate } from '../../src/registry/migrate.ts'
import { postgresVersions, uniqueName } from '../support/services.ts'
import { type Cut, cut, type Fold, foldBetween, resolve } from './fold.ts'

const run = promisify(execFile)
const SCHEMA = 'create table items (id int primary key, note text)'
/** Uses up transaction numbers, so that the first server's are above those that the second has yet to give out. */
const burn = (count: number) =>
  `do $$ begin for i in 1..${count} loop perform pg_current_xact_id(); commit; end loop; end $$`

/** A folder with pg_dump and psql that know this server, as packages of the system or on PATH; undefined where there is none. */
async function dumpTools(version: string): Promise<string | undefined> {
  const packaged = await readdir('/usr/lib/postgresql').catch(() => [])
  for (const folder of [...packaged.map((name) => join('/usr/lib/postgresql', name, 'bin')), '']) {
    const said = await run(join(folder, 'pg_dump'), ['--version']).catch(() => ({ stdout: '' }))
    if (Number(/(\d+)/.exec(said.stdout)?.[1] ?? 0) >= Number(version)) return folder
  }
  return undefined
}

/** What pg_dump would bring along, where there is none for this server: the rows of every table, and where each sequence is. */
async function copyRows(from: string, to: string): Promise<void> {
  await migrate(to)
  const [source, target] = [await connected(from), await connected(to)]
  await target.query(SCHEMA)
  const { rows } = await source.query<{ name: string }>(
    `select oid::regclass::text as name from pg_class where relkind = 'r' and relnamespace in ('snapflip'::regnamespace, 'public'::regnamespace)`,
  )
  for (const { name } of rows) {
    await target
      .query(`delete from ${name}`)
      .catch(() => target.query(`alter table ${name} disable trigger user; delete from ${name}`))
    const chunks: Buffer[] = []
    for await (const chunk of source.query(copyTo(`copy ${name} to stdout`))) chunks.push(chunk as Buffer)
    await pipeline(Readable.from(chunks), target.query(copyFrom(`copy ${name} from stdin`)))
  }
  const sequences = await source.query<{ name: string; last: string }>(
    `select format('%I.%I', schemaname, sequencename) as name, last_value as last from pg_sequences where last_value is not null`,
  )
  for (const { name, last } of sequences.rows) await target.query('select setval($1, $2)', [name, last])
  await target.query(`create trigger snapflip_capture after insert or update or delete on items for each row execute function snapflip.capture();
    create trigger snapflip_truncate after truncate on items for each statement execute function snapflip.capture_truncate();
    alter table items enable always trigger snapflip_capture; alter table items enable always trigger snapflip_truncate`)
  await Promise.all([source.end(), target.end()])
}

async function until(client: Client, condition: string): Promise<void> {
  await expect.poll(async () => (await client.query(`select ${condition} as yes`)).rows[0].yes).toBe(true)
}

async function connected(url: string): Promise<Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

describe.each(postgresVersions)('a database dumped and restored into another cluster of PostgreSQL %s', (version) => {
  let first: LocalPostgres
  let second: LocalPostgres
  let client: Client
  let sources: Source[]
  let tools: string | undefined
  let known: string[]
  let former: Awaited<ReturnType<typeof cut>>

  beforeAll(async () => {
    ;[first, second] = await Promise.all([
      startPostgres({ version, fsync: false }),
      startPostgres({ version, fsync: false }),
    ])
    tools = await dumpTools(version)
  })
  afterAll(() => Promise.all([first?.stop(), second?.stop()]))

  beforeEach(async () => {
    const [admin, copy] = [`from_${uniqueName()}`, `to_${uniqueName()}`]
    for (const [server, name] of [
      [first, admin],
      [second, copy],
    ] as const) {
      const owner = await connected(server.url)
      await owner.query(`create database ${name} template template0`)
      await owner.end()
    }
    const from = first.urlOf(admin)
    await migrate(from)
    const origin = await connected(from)
    await origin.query(SCHEMA)
    await origin.query(burn(5_000))
    const items = await resolve(origin, { from: 'public.items', key: 'id', value: ['note'] })
    const events = await resolve(origin, { events: true }, 'labels')
    await attach(origin, [items])
    former = await cut(origin, [items, events])
    await origin.query(`insert into items values (1, 'a'), (2, 'b'); update items set note = 'c' where id = 2`)
    for (const value of ['old', 'older than the last', 'last']) await append(origin, 'shop', 'labels', 'k', value)
    await append(origin, 'shop', 'labels', 'gone', 1)
    await append(origin, 'shop', 'labels', 'gone', null)
    known = (await cut(origin, [items, events])).truth.flatMap((fold) => fold.list())
    await origin.end()

    const to = second.urlOf(copy)
    if (tools === undefined) await copyRows(from, to)
    else
      await run('sh', [
        '-c',
        `"${join(tools, 'pg_dump')}" "$1" | "${join(tools, 'psql')}" -qX -v ON_ERROR_STOP=1 "$2"`,
        'sh',
        from,
        to,
      ])
    client = await connected(to)
    sources = [
      await resolve(client, { from: 'public.items', key: 'id', value: ['note'] }),
      await resolve(client, { events: true }, 'labels'),
    ]
    return () => client.end()
  })

  const counter = async () => BigInt((await client.query('select pg_current_xact_id()::text as xid')).rows[0].xid)
  const topXid = async (relation: string) =>
    BigInt((await client.query(`select max(xid)::text as xid from snapflip.${relation}`)).rows[0]?.xid ?? 0)

  it('replays no restored change and no restored event, neither before nor after its own counter passes theirs', async () => {
    // A restored change may be of a table that has its oid here by chance.
    await client.query(`update snapflip.changelog set relid = 'items'::regclass`)
    const top = await topXid('events')
    expect(await counter()).toBeLessThan(top)
    const cuts = [await cut(client, sources)]
    expect(cuts[0]?.truth.flatMap((fold) => fold.list())).toEqual(known)
    const append_ = async (value: unknown) => {
      await append(client, 'shop', 'labels', 'k', value)
      await client.query(`update items set note = note || '!'`)
    }
    await append_('here')
    cuts.push(await cut(client, sources))
    await append_('here too')
    cuts.push(await cut(client, sources))
    await client.query(burn(Number(top - (await counter()))))
    expect(await counter()).toBeGreaterThan(top)
    cuts.push(await cut(client, sources))
    await append_('after')
    cuts.push(await cut(client, sources))
    for (const [n, to] of cuts.entries()) {
      for (const from of cuts.slice(0, n)) {
        for (const [index, source] of sources.entries())
          expect((await foldBetween(client, source, index, from, to)).list()).toEqual(to.truth[index]?.list())
      }
    }
    expect([...((cuts.at(-1) as Cut).truth[1] as Fold).values()]).toEqual(['after'])
  })

  it('does not take a restored row for one of a transaction that is open here under the same number', async () => {
    const open = await connected(second.urlOf(client.database as string))
    await open.query('begin')
    const { rows } = await open.query<{ xid: string }>('select pg_current_xact_id()::text as xid')
    await client.query(`update snapflip.changelog set relid = 'items'::regclass, xid = $1::xid8`, [rows[0]?.xid])
    await client.query(`update snapflip.events set xid = $1::xid8 where value = '"old"'`, [rows[0]?.xid])
    const from = await cut(client, sources)
    await open.query('commit')
    await open.end()
    const to = await cut(client, sources)
    for (const [index, source] of sources.entries())
      expect((await foldBetween(client, source, index, from, to)).list()).toEqual(from.truth[index]?.list())
  })

  it('keeps each event once, and nothing of the other history that a window could start at', async () => {
    const count = async () => (await client.query('select count(*)::int as n from snapflip.events')).rows[0].n
    const before = await count()
    await cut(client, sources)
    expect(await count()).toBe(before)
    expect(await watermarkStillThere(client, former.watermark)).toBe(false)
    const left = await client.query('select system = snapflip.system() as own from snapflip.watermarks')
    expect(left.rows).toEqual([{ own: true }])
    expect((await client.query('select from snapflip.changelog')).rowCount).toBe(0)
  })

  it('keeps what was written here before the first watermark and while it was taken', async () => {
    const open = await connected(second.urlOf(client.database as string))
    await append(client, 'shop', 'labels', 'k', 'before')
    await open.query(`begin; update items set note = 'open' where id = 1`)
    await append(open, 'shop', 'labels', 'k2', 'open')
    const from = await cut(client, sources)
    await open.query('commit')
    await open.end()
    const to = await cut(client, sources)
    expect([...(to.truth[1] as Fold).values()].sort()).toEqual(['before', 'open'])
    for (const [index, source] of sources.entries())
      expect((await foldBetween(client, source, index, from, to)).list()).toEqual(to.truth[index]?.list())
  })

  it('begins once, though two builds take its first watermarks at the same time', async () => {
    const other = await connected(second.urlOf(client.database as string))
    await other.query(`begin; select snapflip.begin_lineage(); update items set note = 'meanwhile'`)
    const cutting = cut(client, sources)
    await until(other, 'exists (select from pg_locks where not granted)')
    await other.query('commit')
    await cutting
    expect((await other.query('select from snapflip.changelog')).rowCount).toBe(2)
    expect((await other.query('select from snapflip.lineage')).rowCount).toBe(1)
    await other.end()
  })

  it('lets no watermark have its snapshot from before and its row from after another history was cleared away', async () => {
    await cut(client, sources)
    const other = await connected(second.urlOf(client.database as string))
    await other.query('begin; lock table snapflip.watermarks in share row exclusive mode')
    const cutting = cut(client, sources)
    await until(other, 'exists (select from pg_locks where not granted)')
    await other.query(`update items set note = 'meanwhile'; commit`)
    expect([...((await cutting).truth[0] as Fold).values()]).toContainEqual({ note: 'meanwhile' })
    await other.end()
  })

  it('notices rows of another history that are loaded after its own has begun', async () => {
    const from = await cut(client, sources)
    await client.query(`insert into snapflip.lineage values ('1/1');
      insert into snapflip.events (seq, xid, dataset, index, key, value) overriding system value
        select max(seq) + 1, '100000000', 'shop', 'labels', 'k', '"loaded"' from snapflip.events`)
    const next = await cut(client, sources)
    expect(await watermarkStillThere(client, from.watermark)).toBe(false)
    expect([...(next.truth[1] as Fold).values()]).toEqual(['loaded'])
    // Its number was not brought along.
    await append(client, 'shop', 'labels', 'k', 'later')
    const last = await cut(client, sources)
    expect([...(last.truth[1] as Fold).values()]).toEqual(['later'])
    expect((await foldBetween(client, sources[1] as Source, 1, next, last)).list()).toEqual(last.truth[1]?.list())
  })

  it('is detached as where it came from: nothing is left behind', async () => {
    expect(await detach(client, ['public.items'])).toEqual(['public.items'])
    const left = await client.query(
      `select tgname from pg_trigger where tgrelid = 'items'::regclass union all select name from snapflip.captures`,
    )
    expect(left.rows).toEqual([])
  })
})
