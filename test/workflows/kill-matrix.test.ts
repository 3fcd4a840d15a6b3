import { describe, expect, it, vi } from 'vitest'
import { FaultPlan, type StoreOperation } from '../stores/faults.ts'
import { expectSound } from '../support/soundness.ts'
import type { ProcessFault } from '../support/worker-process.ts'
import { around, makeWorld, type World } from '../support/world.ts'

/** Its third version calls for all there is: a parent, one index that is written anew and one that is shared, a version to retire and sweep. */
const SHOP = {
  schema: `create table products (id integer primary key, sku text not null, price integer not null);
    insert into products select n, 'sku-' || n, n * 10 from generate_series(1, 200) n`,
  dataset: {
    keep: 2,
    indexes: {
      products: { from: 'public.products', key: 'id', value: ['sku', 'price'] },
      bySku: { from: 'public.products', key: 'sku', many: true, value: 'id' },
    },
  },
}

type OnFinished = (close: () => Promise<void>) => void

/** A worker takes 10 s to be missed: the waits of several datasets overlap. */
vi.setConfig({ maxConcurrency: 8, testTimeout: 240_000 })

async function change(world: World): Promise<void> {
  await world.pool.query(`update products set price = price + 1;
    delete from products where id = (select max(id) from products)`)
}

/** Two versions; the next refresh, the third, is the one that things happen to. */
async function makeTwoVersions(world: World): Promise<void> {
  await world.refresh()
  await change(world)
  await world.refresh()
  await change(world)
}

/** Readers see the whole table as it is, in both indexes. Only where nobody writes. */
async function expectReadsAsTable(world: World): Promise<void> {
  const { rows } = await world.pool.query<{ id: number; sku: string; price: number }>('select * from products')
  const reader = await world.reader()
  const found = await reader.getMany(
    'products',
    rows.map((row) => String(row.id)),
  )
  expect(found).toEqual(rows.map(({ sku, price }) => ({ sku, price })))
  for (const { sku, id } of rows.slice(0, 20)) expect(await reader.list('bySku', sku)).toEqual([id])
  const last = rows.length + 1
  expect(await reader.get('products', last)).toBeUndefined()
}

/** What happened is over: readers have it all, and one refresh later nothing of it is left. */
async function expectRecovered(world: World): Promise<void> {
  await expectReadsAsTable(world)
  // The lease of a killed build keeps its parent for a minute; this is that minute.
  const { leases } = await world.store()
  for (const lease of await leases.list()) if (lease.kind === 'build') await leases.drop(lease.id)
  await change(world)
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  await expectReadsAsTable(world)
  await expectSound(world)
}

const PAUSES: readonly Omit<ProcessFault, 'how'>[] = [
  { at: 'data.begin', when: 'before' },
  { at: 'data.putManifest', when: 'before' },
  { at: 'pointer.swap', when: 'before' },
]

// First, since they take longest: a paused worker's open polls swallow tasks until those time out.
describe.concurrent('a worker that is paused past its time and goes on beside its successor', () => {
  it.for(PAUSES)('$when $at', async (pause, { onTestFinished }) => {
    const world = await makeWorld({ ...SHOP, onFinished: onTestFinished as OnFinished })
    const paused = await world.workerProcess({ ...pause, how: 'SIGSTOP' })
    await makeTwoVersions(world)
    await paused.arm()
    const refresh = world.refresh()
    await paused.fault()
    await world.worker()
    const outcome = await refresh
    expect(outcome).toMatchObject({ status: 'FLIPPED', active: outcome.tag })
    const before = await world.pointer()
    paused.signal('SIGCONT')
    await paused.line((line) => line.fault === 'over')
    await paused.end()
    expect((await world.pointer()).active).toEqual(before.active)
    expect((await world.pointer()).epoch).toEqual(before.epoch)
    await expectRecovered(world)
  })
})

const KILLS: readonly Omit<ProcessFault, 'how'>[] = [
  ...['plan', 'build', 'gates', 'preflip', 'flip', 'verify', 'retire', 'finish'].flatMap((step) => [
    { at: `activity.${step}`, when: 'before' as const },
    { at: `activity.${step}`, when: 'after' as const },
  ]),
  { at: 'leases.put', when: 'after' },
  { at: 'data.begin', when: 'after' },
  { at: 'writer.put', when: 'after' },
  { at: 'writer.finish', when: 'after' },
  { at: 'writer.finish', when: 'after', nth: 2 },
  { at: 'data.putManifest', when: 'before' },
  { at: 'data.putManifest', when: 'after' },
  { at: 'leases.drop', when: 'before' },
  // The flip itself, the mark of what is retired, and the one that forgets it.
  { at: 'pointer.swap', when: 'before' },
  { at: 'pointer.swap', when: 'after' },
  { at: 'pointer.swap', when: 'after', nth: 2 },
  { at: 'pointer.swap', when: 'after', nth: 3 },
  { at: 'data.deleteGeneration', when: 'after' },
  { at: 'data.deleteManifest', when: 'after' },
]

describe.concurrent('a worker that is killed', () => {
  it.for(KILLS.map((kill) => ({ nth: 1, ...kill })))('$when $at ($nth)', async (kill, { onTestFinished }) => {
    const world = await makeWorld({ ...SHOP, onFinished: onTestFinished as OnFinished })
    const victim = await world.workerProcess({ ...kill, how: 'SIGKILL' })
    await makeTwoVersions(world)
    await victim.arm()
    const refresh = world.refresh()
    expect(await victim.ended()).toBe('SIGKILL')
    await world.worker()
    const outcome = await refresh
    expect(outcome).toMatchObject({ status: 'FLIPPED', active: outcome.tag })
    await expectRecovered(world)
  })
})

const LOST: readonly StoreOperation[] = [
  'leases.put',
  'data.begin',
  'writer.put',
  'writer.finish',
  'data.putManifest',
  'leases.drop',
  'pointer.swap',
  'data.deleteGeneration',
  'data.deleteManifest',
]

describe.concurrent('a write whose reply is lost', () => {
  it.for(LOST)('%s', async (operation, { onTestFinished }) => {
    const world = await makeWorld({ ...SHOP, onFinished: onTestFinished as OnFinished })
    const plan = new FaultPlan()
    await world.worker(around(plan))
    await makeTwoVersions(world)
    plan.fail(operation, { kind: 'after' })
    const outcome = await world.refresh()
    expect(plan.left).toBe(0)
    expect(outcome).toMatchObject({ status: 'FLIPPED', active: outcome.tag })
    await expectRecovered(world)
  })
})
