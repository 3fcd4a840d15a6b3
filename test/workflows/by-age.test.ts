import { MockActivityEnvironment } from '@temporalio/testing'
import { expect, it } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { type Found, somethingNew } from '../../activities/something-new.ts'
import type { DatasetDefinition } from '../../schemas/config.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { makeWorld, type World } from '../support/world.ts'

const SCHEMA = `create table items (id integer primary key, n integer not null);
  insert into items select g, g from generate_series(1, 100) g;
  create view totals as select id % 10 as bucket, sum(n) as n from items group by 1`
const HOUR_MS = 3_600_000

function redefine(world: World, change: (definition: DatasetDefinition) => void): Promise<void> {
  change(world.config.datasets[world.dataset] as DatasetDefinition)
  return world.apply()
}

it('a source without capture is read again by age: until then a refresh finds nothing new, or carries it along', async () => {
  const world = await makeWorld({
    schema: SCHEMA,
    dataset: {
      indexes: {
        items: { from: 'public.items', key: 'id', value: 'n', where: 'id <= 50' },
        totals: { from: 'public.totals', key: 'bucket', value: 'n', capture: 'none', rebuildAfterMs: HOUR_MS },
      },
    },
  })
  const used: Deps[] = []
  await world.worker((deps) => {
    used.push(deps)
    return deps
  })
  const reader = await (async () => {
    await world.refresh()
    return world.reader()
  })()
  const total = await reader.get('totals', '1')
  const { freshAsOf } = await world.pointer()

  // A row of the table that only the view shows.
  await world.pool.query('update items set n = n + 1000 where id = 91')
  const same = await world.refresh()
  expect(same).toMatchObject({
    status: 'NOTHING_NEW',
    summary: expect.stringContaining('totals: its source was read at'),
  })
  // It was not looked at, so nothing more is known of it.
  expect((await world.pointer()).freshAsOf).toEqual(freshAsOf)

  await world.pool.query('update items set n = 0 where id = 1')
  const carried = await world.refresh()
  expect(carried).toMatchObject({ status: 'FLIPPED', summary: expect.stringContaining('totals: unchanged') })
  await waitUntil('the reader to follow', async () => ((await reader.get('items', '1')) === 0 ? true : undefined))
  expect(await reader.get('totals', '1')).toEqual(total)

  await redefine(world, ({ indexes }) => Object.assign(indexes.totals ?? {}, { rebuildAfterMs: 1 }))
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED', summary: expect.stringContaining('built in full') })
  await waitUntil('the reader to follow', async () =>
    (await reader.get('totals', '1')) === Number(total) + 1000 - 1 ? true : undefined,
  )
  // Read again, found the same: that counts as read.
  const before = (await world.pointer()).freshAsOf?.at ?? ''
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect(Date.parse((await world.pointer()).freshAsOf?.at ?? '')).toBeGreaterThan(Date.parse(before))
  await redefine(world, ({ indexes }) => Object.assign(indexes.totals ?? {}, { rebuildAfterMs: HOUR_MS }))
  expect(await world.refresh()).toMatchObject({ summary: expect.stringContaining('its source was read at') })

  // In continuous mode: due by age alone it is found with a snapshot, so that what a gate then refuses is looked at from there on.
  await redefine(world, (definition) => {
    Object.assign(definition, { schedule: { continuous: { atMostEveryMs: 100 } } })
    Object.assign(definition.indexes.totals ?? {}, { rebuildAfterMs: 1 })
  })
  const look = (since: string | null): Promise<Found> =>
    new MockActivityEnvironment().run(somethingNew(used[0] as Deps), { dataset: world.dataset, since })
  const { seen } = await look(null)
  expect(seen).toMatch(/^\d+:\d+:/)
  expect((await look(seen)).seen).toMatch(/^\d+:\d+:/)
})

it('a version older than its budget is told, once, though nothing refreshes it; a definition without one takes it back', async () => {
  const ttl = { budgetMs: 1_000, beyond: 'mark' as const }
  const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes, ttl } })
  // What was applied counts, whatever file the worker was started with.
  const file = world.config.datasets[world.dataset] as DatasetDefinition
  delete file.ttl
  await world.worker()
  Object.assign(file, { ttl })
  const { tag } = await world.refresh()
  expect((await world.pointer()).ttl).toEqual(ttl)
  await world.hold('a look')
  const alerts = async () =>
    (await world.pool.query(`select kind, version, summary from snapflip.alerts where kind = 'VERSION_EXPIRED'`)).rows
  await waitUntil('the alert', async () => ((await alerts()).length > 0 ? true : undefined))
  await waitUntil('another look', async () =>
    (await world.pool.query('select from snapflip.alerts where times > 1')).rowCount === 1 ? true : undefined,
  )
  expect(await alerts()).toEqual([
    {
      kind: 'VERSION_EXPIRED',
      version: tag,
      summary: expect.stringContaining('longer ago than its budget of 1000 ms'),
    },
  ])

  await world.resume()
  await redefine(world, (definition) => Object.assign(definition, { ttl: undefined }))
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect((await world.pointer()).ttl).toBeNull()
})
