import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { type BuildEvidence, buildEvidenceSchema } from '../../schemas/evidence.ts'
import type { Manifest } from '../../schemas/manifest.ts'
import { append } from '../../src/changelog/append.ts'
import { gateResults } from '../../src/registry/gate-results.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { version } from '../../src/registry/version.ts'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
import { makeWorld, type World } from '../support/world.ts'

const ITEMS = {
  schema: `create table items (id integer primary key, name text not null, price integer not null);
    insert into items select n, 'item ' || n, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { items: { from: 'public.items', key: 'id', value: ['name', 'price'] } } },
}

async function evidenceOf(world: World, tag: string | null): Promise<BuildEvidence> {
  return buildEvidenceSchema.parse((await version(world.pool, world.dataset, tag ?? '')).counts)
}

async function manifestOf(world: World, tag: string | null): Promise<Manifest> {
  const bytes = await (await world.store()).data.readManifest(tag ?? '')
  return decodeManifest(bytes ?? new Uint8Array(), { dataset: world.dataset, tag: tag ?? '' })
}

/** A full build of the same rows must have the same digest. */
async function expectSameAsFull(world: World, tag: string | null): Promise<void> {
  const full = await world.refresh({ full: true, reason: 'to compare' })
  expect((await evidenceOf(world, full.tag)).items).toMatchObject({ build: 'full', reason: 'full build: to compare' })
  expect((await manifestOf(world, full.tag)).digest).toBe((await manifestOf(world, tag)).digest)
}

/** Runs the next of `sqls` right before the `nth` statement that matches, on each connection that a build makes. */
function beforeStatement(world: World, matching: RegExp, nth = 1) {
  const hook = {
    sqls: [] as string[],
    decorate: (deps: Deps): Deps => ({
      ...deps,
      async builder() {
        const client = await deps.builder()
        const query = client.query.bind(client) as (...given: unknown[]) => unknown
        let seen = 0
        client.query = ((...given: unknown[]) => {
          if (typeof given[0] !== 'string' || !matching.test(given[0]) || ++seen !== nth) return query(...given)
          const sql = hook.sqls.shift()
          return sql === undefined ? query(...given) : world.pool.query(sql).then(() => query(...given))
        }) as typeof client.query
        return client
      },
    }),
  }
  return hook
}

/** Overwrites everything that this version wrote itself, on the disk of a folder store. */
async function damageAll(world: World, tag: string | null): Promise<void> {
  const { generation, sources } = await manifestOf(world, tag)
  for (const name of new Set([generation, ...sources.map((source) => source.generation)])) {
    const folder = join((await world.store()).url.slice('file:'.length), world.dataset, 'packs', name)
    for (const pack of await readdir(folder)) {
      const path = join(folder, pack)
      await writeFile(path, Buffer.alloc((await stat(path)).size, 7))
    }
  }
}

const alertsOf = (world: World) => world.logged.flatMap((line) => (line.alert === undefined ? [] : [line.alert]))

it.each([
  {
    what: 'capture was switched off for a while',
    sql: `alter table items disable trigger snapflip_capture;
      delete from items where id = 7;
      alter table items enable always trigger snapflip_capture`,
    reason: /trigger snapflip_capture/,
  },
  {
    what: 'the table was truncated',
    sql: "truncate items; insert into items values (1, 'one', 1)",
    reason: /items was truncated/,
  },
  {
    what: 'the table was dropped and created again',
    sql: `alter table items rename to old_items; create table items (like old_items including all);
      insert into items select * from old_items where id > 7; drop table old_items`,
    reason: /items is another table than the parent's/,
  },
  {
    what: 'a column was added',
    sql: 'alter table items add column weight integer not null default 3',
    reason: /columns of public.items changed: .*weight/,
  },
])('$what: the next version is built in full and says so', async ({ sql, reason }) => {
  const world = await makeWorld({
    ...ITEMS,
    dataset: { ...ITEMS.dataset, gates: { changeVolume: { deleted: { percent: 100 }, shrunk: { percent: 100 } } } },
  })
  await world.worker()
  await world.refresh()
  await world.pool.query(sql)
  const next = await world.refresh()
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect((await evidenceOf(world, next.tag)).items).toMatchObject({
    build: 'full',
    reason: expect.stringMatching(reason),
  })
  expect((await manifestOf(world, next.tag)).indexes.items).toMatchObject({
    build: 'full',
    reason: expect.stringMatching(reason),
  })
  expect(next.summary).toMatch(reason)
  expect(alertsOf(world)).toEqual([])
  await world.pool.query('update items set price = price + 1 where id < 20')
  const after = await world.refresh()
  expect((await evidenceOf(world, after.tag)).items).toMatchObject({ build: 'incremental' })
  await expectSameAsFull(world, after.tag)
})

it('a partition that was attached: the next version is built in full and holds its rows', async () => {
  const world = await makeWorld({
    ...ITEMS,
    schema: `create table items (id integer primary key, name text not null, price integer not null) partition by range (id);
      create table items_low partition of items for values from (1) to (1000);
      insert into items select n, 'item ' || n, n * 10 from generate_series(1, 300) n`,
  })
  await world.worker()
  await world.refresh()
  await world.pool.query(`create table items_high (price integer not null, id integer not null, name text not null);
    insert into items_high values (5, 1001, 'high'); alter table items_high add primary key (id);
    alter table items attach partition items_high for values from (1000) to (2000)`)
  const next = await world.refresh()
  expect((await evidenceOf(world, next.tag)).items).toMatchObject({
    build: 'full',
    reason: expect.stringMatching(/partition .*items_high of .*items was attached or created/),
  })
  expect(await (await world.reader()).get('items', 1001)).toEqual({ name: 'high', price: 5 })
  await world.pool.query('update items set price = 6 where id in (3, 1001)')
  const after = await world.refresh()
  expect(after.summary).toContain('~2')
  await expectSameAsFull(world, after.tag)
})

it('another definition builds its index in full and leaves the others alone', async () => {
  const world = await makeWorld({
    ...ITEMS,
    dataset: { indexes: { ...ITEMS.dataset.indexes, names: { from: 'public.items', key: 'name', value: 'id' } } },
  })
  await world.worker()
  await world.refresh()
  Object.assign(world.config.datasets[world.dataset]?.indexes.items ?? {}, { value: ['price'] })
  await world.apply()
  const next = await world.refresh()
  const evidence = await evidenceOf(world, next.tag)
  expect(evidence.items).toMatchObject({
    build: 'full',
    reason: 'its definition or the shape of its source changed',
  })
  expect(evidence.names?.build).toBe('unchanged')
  expect(await (await world.reader()).get('items', 7)).toEqual({ price: 70 })
})

it('a watermark that is not in the history of the database: LINEAGE_BROKEN is told and the version built in full', async () => {
  const world = await makeWorld(ITEMS)
  await world.worker()
  const first = await world.refresh()
  const { watermark } = await manifestOf(world, first.tag)
  await world.pool.query('delete from snapflip.watermarks where id = $1', [watermark.id])
  await world.pool.query('update items set price = 1 where id = 7')
  const next = await world.refresh()
  expect((await evidenceOf(world, next.tag)).items).toMatchObject({
    build: 'full',
    reason: expect.stringContaining('LINEAGE_BROKEN'),
  })
  expect(alertsOf(world)).toEqual(['LINEAGE_BROKEN'])
  const [entry] = await historyEntries(world.pool, { dataset: world.dataset, kind: 'alert.lineage_broken' })
  expect(entry).toMatchObject({ version: first.tag, detail: { watermark: watermark.id } })
  await expectSameAsFull(world, next.tag)
})

it('a missed change is told, and the same refresh builds in full', async () => {
  const world = await makeWorld(ITEMS)
  await world.worker()
  await world.refresh()
  await world.pool.query('update items set price = 1 where id = 7')
  await world.pool.query('update items set price = 2 where id = 7')
  await world.pool.query('delete from snapflip.changelog where seq = (select min(seq) from snapflip.changelog)')
  const next = await world.refresh()
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect((await evidenceOf(world, next.tag)).items).toMatchObject({
    build: 'full',
    reason: expect.stringMatching(/a change was missed/),
  })
  expect(alertsOf(world)).toEqual(['CHANGE_MISSED'])
  const [entry] = await historyEntries(world.pool, { dataset: world.dataset, kind: 'alert.change_missed' })
  expect(entry?.detail).toMatchObject({ index: 'items', count: 1 })
  expect(JSON.stringify(entry?.detail)).toContain('sha256:')
  expect(await (await world.reader()).get('items', 7)).toEqual({ name: 'item 7', price: 2 })
  await expectSameAsFull(world, next.tag)
})

it('a source that is not captured is read anew each time, and unchanged makes no version', async () => {
  const world = await makeWorld({
    schema: `${ITEMS.schema}; create view cheap as select id, name from items where price <= 1000`,
    dataset: { indexes: { cheap: { from: 'public.cheap', key: 'id', value: 'name', capture: 'none' } } },
  })
  await world.worker()
  const first = await world.refresh()
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW', active: first.tag })
  await world.pool.query('delete from items where id = 7')
  const next = await world.refresh()
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect((await evidenceOf(world, next.tag)).cheap).toMatchObject({
    build: 'full',
    reason: 'its source is not captured',
    count: 99,
  })
  const reader = await world.reader()
  expect(await reader.get('cheap', 7)).toBeUndefined()
  expect(await reader.get('cheap', 8)).toBe('item 8')
})

it('appended events become versions: the last of a key counts, null takes it away', async () => {
  const world = await makeWorld({ schema: 'select', dataset: { indexes: { labels: { events: true } } } })
  await world.worker()
  const { dataset, pool } = world
  const say = (key: string | string[], value: unknown) => append(pool, dataset, 'labels', key, value)
  await say('a', { text: 'one' })
  await say('b', 1)
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  await say('a', { text: 'two' })
  await say('a', { text: 'three' })
  await say('b', null)
  await say('c', [])
  await say(['x', 'y'], 'of two parts')
  const next = await world.refresh()
  expect(next.summary).toMatch(/labels: \+2 ~1 -1 of 2/)
  const reader = await world.reader()
  expect(await reader.getMany('labels', ['a', 'b', 'c', ['x', 'y']])).toEqual([
    { text: 'three' },
    undefined,
    [],
    'of two parts',
  ])
})

it('changes of every kind give the digest that a full build of the same rows has', async () => {
  const world = await makeWorld({
    ...ITEMS,
    dataset: {
      indexes: {
        ...ITEMS.dataset.indexes,
        byPrice: { from: 'public.items', key: 'price', many: true, order: 'name', value: 'id', where: 'price > 50' },
      },
    },
  })
  await world.worker()
  await world.refresh()
  await world.pool.query(`update items set id = id + 1000 where id % 10 = 0; update items set price = 100 where id % 3 = 0;
    delete from items where id % 50 = 1; insert into items select n, 'new', n from generate_series(400, 450) n;
    update items set price = price - 60 where id between 20 and 40`)
  const next = await world.refresh()
  const evidence = await evidenceOf(world, next.tag)
  expect([evidence.items?.build, evidence.byPrice?.build]).toEqual(['incremental', 'incremental'])
  await expectSameAsFull(world, next.tag)
})

it('an index that was dropped from the definition is gone from the next version, though no row changed', async () => {
  const world = await makeWorld({
    ...ITEMS,
    dataset: { indexes: { ...ITEMS.dataset.indexes, names: { from: 'public.items', key: 'name', value: 'id' } } },
  })
  await world.worker()
  await world.refresh()
  const definition = world.config.datasets[world.dataset]
  delete definition?.indexes.names
  await world.apply()
  const next = await world.refresh()
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect(Object.keys((await manifestOf(world, next.tag)).indexes)).toEqual(['items'])
  expect(await (await world.reader()).get('items', 7)).toEqual({ name: 'item 7', price: 70 })
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW', active: next.tag })
})

it('changes missed while capture was off are never taken for nothing new, whenever it was switched off', async () => {
  const world = await makeWorld(ITEMS)
  const watermark = beforeStatement(world, /^begin isolation level repeatable read, read write/)
  await world.worker(watermark.decorate)
  await world.refresh()
  watermark.sqls.push(`alter table items disable trigger snapflip_capture; delete from items where id = 7;
    alter table items enable always trigger snapflip_capture`)
  const next = await world.refresh()
  expect(watermark.sqls).toEqual([])
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect((await evidenceOf(world, next.tag)).items).toMatchObject({ build: 'full', count: 299, deleted: 1 })
  expect(await (await world.reader()).get('items', 7)).toBeUndefined()
})

it('a full build heals a version whose blocks and pages are damaged, and says that it could not compare', async () => {
  const world = await makeWorld(ITEMS)
  await world.worker()
  const first = await world.refresh()
  await damageAll(world, first.tag)
  await world.pool.query('update items set price = 1 where id = 7')
  const next = await world.refresh({ full: true, reason: 'blocks are damaged' })
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect((await evidenceOf(world, next.tag)).items).toMatchObject({
    build: 'full',
    notCompared: expect.stringMatching(/expected .* found/),
  })
  const results = await gateResults(world.pool, world.dataset, next.tag ?? '')
  expect(results.find((result) => result.gate === 'changeVolume')).toMatchObject({
    verdict: 'warn',
    summary: expect.stringContaining('not compared'),
  })
  expect(await (await world.reader()).get('items', 7)).toEqual({ name: 'item 7', price: 1 })
})

it('a full build of what is not captured writes its blocks anew, since those there may be damaged', async () => {
  const world = await makeWorld({
    ...ITEMS,
    dataset: { indexes: { items: { ...ITEMS.dataset.indexes.items, capture: 'none' as const } } },
  })
  await world.worker()
  const first = await world.refresh()
  await damageAll(world, first.tag)
  const next = await world.refresh({ full: true, reason: 'blocks are damaged' })
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect(await (await world.reader()).get('items', 7)).toEqual({ name: 'item 7', price: 70 })
})

it('an index that becomes `many` is judged against what it was before', async () => {
  const world = await makeWorld({
    ...ITEMS,
    dataset: { ...ITEMS.dataset, gates: { changeVolume: { deleted: { percent: 10, atLeast: 10, verdict: 'hold' } } } },
  })
  await world.worker()
  await world.refresh()
  Object.assign(world.config.datasets[world.dataset]?.indexes.items ?? {}, { many: true })
  await world.apply()
  await world.pool.query('delete from items where id > 100')
  const next = await world.refresh()
  expect(next).toMatchObject({ status: 'HELD' })
  expect((await evidenceOf(world, next.tag)).items).toMatchObject({
    build: 'full',
    reason: 'it was declared `unique`, now `many`',
    parentCount: 300,
    deleted: 200,
    formerShape: expect.any(String),
  })
})

it.each([
  { what: 'altered', sql: 'alter table items add column weight integer', count: 300 },
  { what: 'truncated', sql: "truncate items; insert into items values (1, 'one', 1)", count: 1 },
])('a table that is $what after its ranges were read: they are read again', async ({ sql, count }) => {
  const world = await makeWorld(ITEMS)
  // The second is the version's watermark; the first is the one range's own.
  const watermark = beforeStatement(world, /^begin isolation level repeatable read, read write/, 2)
  await world.worker(watermark.decorate)
  watermark.sqls.push(sql)
  const first = await world.refresh()
  expect(watermark.sqls).toEqual([])
  expect(first).toMatchObject({ status: 'FLIPPED' })
  expect((await evidenceOf(world, first.tag)).items).toMatchObject({ reason: 'the first version of this index', count })
})

it('a table that is altered again and again while its ranges are read is read in one transaction', async () => {
  const world = await makeWorld(ITEMS)
  const watermark = beforeStatement(world, /^begin isolation level repeatable read, read write/, 2)
  await world.worker(watermark.decorate)
  for (let n = 0; n < 15; n++) watermark.sqls.push(`alter table items add column weight${n} integer`)
  const first = await world.refresh()
  expect(first).toMatchObject({ status: 'FLIPPED' })
  expect(watermark.sqls).toHaveLength(11)
  expect((await evidenceOf(world, first.tag)).items).toMatchObject({ count: 300 })
})

it('a watermark that goes while the changes since are read: the same refresh builds in full', async () => {
  const world = await makeWorld(ITEMS)
  const window = beforeStatement(world, /^begin isolation level read committed, read only/)
  await world.worker(window.decorate)
  const first = await world.refresh()
  const { watermark } = await manifestOf(world, first.tag)
  await world.pool.query('update items set price = 1 where id = 7')
  window.sqls.push(`delete from snapflip.watermarks where id = '${watermark.id}'`)
  const next = await world.refresh()
  expect(window.sqls).toEqual([])
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect((await evidenceOf(world, next.tag)).items).toMatchObject({
    build: 'full',
    reason: expect.stringContaining('LINEAGE_BROKEN'),
  })
})

it('capture that a refresh puts back is an entry of the history', async () => {
  const world = await makeWorld(ITEMS)
  await world.worker()
  await world.refresh()
  await world.pool.query('drop trigger snapflip_capture on items; delete from items where id = 7')
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  const entries = await historyEntries(world.pool, { dataset: world.dataset, kind: 'capture.attached' })
  expect(entries.map((entry) => entry.detail.tables)).toEqual([['public.items']])
})
