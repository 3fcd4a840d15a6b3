import { chmod, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import pg from 'pg'
import { describe, expect, it, vi } from 'vitest'
import { type RefreshOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { type LocalPostgres, startPostgres } from '../../src/local/postgres.ts'
import { startRedis } from '../../src/local/redis.ts'
import { startTemporal } from '../../src/local/temporal.ts'
import { migrate } from '../../src/registry/migrate.ts'
import { refreshes } from '../../src/registry/refreshes.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { continuousState, putContinuous, removeContinuous } from '../../src/temporal/continuous.ts'
import type { StoreOperation } from '../stores/faults.ts'
import { startTcpProxy } from '../stores/tcp-proxy.ts'
import { testFolder } from '../support/services.ts'
import { expectSound } from '../support/soundness.ts'
import { around, makeWorld, type World } from '../support/world.ts'

/** The kill matrix goes on here: not the worker goes away in the middle of a refresh, but what it works with. */
const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n from generate_series(1, 300) n`,
  dataset: { keep: 3, indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}
type OnFinished = (close: () => Promise<void>) => void

vi.setConfig({ maxConcurrency: 4, testTimeout: 240_000 })

/** Happens once it is armed, at the first such call: before it, after it, or around it. */
class Moment {
  #at: StoreOperation | null = null
  #fault: { before?: () => Promise<unknown>; after?: () => Promise<unknown> } = {}

  arm(at: StoreOperation, fault: { before?: () => Promise<unknown>; after?: () => Promise<unknown> }): void {
    this.#at = at
    this.#fault = fault
  }

  get isOver(): boolean {
    return this.#at === null
  }

  async run(operation: StoreOperation, call: () => Promise<unknown>): Promise<unknown> {
    if (operation !== this.#at) return call()
    this.#at = null
    const { before, after } = this.#fault
    await before?.()
    const result = await call()
    await after?.()
    return result
  }
}

async function change(world: World): Promise<void> {
  await world.pool.query('update products set price = price + 1')
}

/** Two versions, and a change for the refresh that things happen to. */
async function begin(world: World): Promise<void> {
  for (let n = 0; n < 2; n++) {
    await change(world)
    expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  }
  await change(world)
}

/** As is due: made, with readers on it, taken back or failed; recorded as what the workflow said. */
async function ends(
  world: World,
  refresh: Promise<RefreshOutcome>,
  due: 'FLIPPED' | 'ROLLED_BACK' | 'FAILED',
): Promise<void> {
  const { status, tag, active } = await refresh.catch(() => ({ status: 'FAILED', tag: null, active: null }))
  expect(status).toBe(due)
  if (due === 'FLIPPED') expect(active).toBe(tag)
  await vi.waitFor(async () => expect((await refreshes(world.pool, world.dataset, 1))[0]?.status).toBe(due), 30_000)
}

/** What must hold afterwards: the next refresh is made, readers see the table as it is, and nothing of what happened is left. */
async function holds(world: World, { hasLost = false } = {}): Promise<void> {
  await change(world)
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  const { rows } = await world.pool.query<{ id: number; price: number }>('select * from products order by id')
  const reader = await world.reader()
  const ids = rows.map(({ id }) => String(id))
  expect(await reader.getMany('products', ids)).toEqual(rows.map(({ price }) => price))
  await expectSound(world, { hasLost })
}

describe.concurrent('PostgreSQL that is stopped hard in the middle of a refresh', () => {
  it.for(['writer.finish', 'pointer.swap'] as const)('after %s it is made', async (at, { onTestFinished }) => {
    const folder = await testFolder()
    // As root, PostgreSQL runs under another account.
    await chmod(folder.path, 0o755)
    const dataDir = join(folder.path, 'postgres')
    let server: LocalPostgres = await startPostgres({ dataDir, fsync: false })
    const { port } = server
    await migrate(server.url)
    const pool = new pg.Pool({ connectionString: server.url })
    pool.on('error', () => undefined)
    onTestFinished(async () => {
      await pool.end()
      await server.stop()
    })
    const world = await makeWorld({
      ...SHOP,
      database: { url: server.url, pool },
      onFinished: onTestFinished as OnFinished,
    })
    const moment = new Moment()
    await world.worker(around(moment))
    await begin(world)
    const back = Promise.withResolvers<void>()
    moment.arm(at, {
      after: async () => {
        await server.crash()
        setTimeout(async () => {
          server = await startPostgres({ dataDir, port, fsync: false })
          back.resolve()
        }, 2_000)
      },
    })
    await ends(world, world.refresh(), 'FLIPPED')
    await back.promise
    expect(moment.isOver).toBe(true)
    await holds(world)
  })
})

describe.concurrent('Redis that is restarted empty in the middle of a refresh', () => {
  it.for(['data.putManifest', 'pointer.swap'] as const)(
    'after %s it fails, and the next one builds from the source',
    async (at, { onTestFinished }) => {
      const folder = await testFolder()
      const settings = { appendfsync: 'always' }
      let server = await startRedis({ dataDir: folder.path, settings })
      onTestFinished(() => server.stop())
      const world = await makeWorld({ ...SHOP, storeUrl: server.url, onFinished: onTestFinished as OnFinished })
      const moment = new Moment()
      await world.worker(around(moment))
      await begin(world)
      const before = (await world.pointer()).epoch
      moment.arm(at, {
        after: async () => {
          await server.crash()
          await rm(join(folder.path, 'appendonlydir'), { recursive: true })
          server = await startRedis({ dataDir: folder.path, port: server.port, settings })
        },
      })
      await ends(world, world.refresh(), 'FAILED')
      expect(moment.isOver).toBe(true)
      await holds(world, { hasLost: true })
      expect((await world.pointer()).epoch.registry).toBeGreaterThan(before.registry)
    },
  )
})

describe.concurrent('Redis that fails over in the middle of a refresh', () => {
  it('and loses the flip that it had acknowledged; then fails back in the middle of the next; then loses a version, which is taken back', async ({
    onTestFinished,
  }) => {
    const settings = { 'repl-diskless-sync-delay': '0' }
    const [first, second] = [await startRedis({ settings }), await startRedis({ settings })]
    const proxy = await startTcpProxy(first.port)
    const [one, two] = [new Redis(first.url), new Redis(second.url)]
    onTestFinished(async () => {
      one.disconnect()
      two.disconnect()
      await proxy.stop()
      await first.stop()
      await second.stop()
    })
    const follows = async (replica: Redis, { port }: { port: number }) => {
      await replica.replicaof('127.0.0.1', port)
      await vi.waitFor(async () => expect(await replica.info('replication')).toMatch(/master_link_status:up/), 20_000)
    }
    // WAIT is about the writes of its own connection; what others wrote before them goes first.
    const heard = async (master: Redis) => {
      await master.set('heard', 'all until here')
      expect(await master.wait(1, 20_000)).toBe(1)
    }
    const storeUrl = `redis://127.0.0.1:${proxy.port}`
    const world = await makeWorld({ ...SHOP, storeUrl, onFinished: onTestFinished as OnFinished })
    const moment = new Moment()
    await world.worker(around(moment))
    await begin(world)
    await follows(two, first)
    moment.arm('pointer.swap', {
      // The replica hears of all that was built, and of nothing from here on: it is cut off, and then takes over.
      before: async () => {
        await heard(one)
        await two.replicaof('NO', 'ONE')
      },
      after: async () => proxy.switchTo(second.port),
    })
    await ends(world, world.refresh(), 'FLIPPED')
    expect(moment.isOver).toBe(true)
    await holds(world)

    // Back to the first server, whose run id is the one from before: it has all that the second had.
    await change(world)
    await follows(one, second)
    moment.arm('data.putManifest', {
      after: async () => {
        await heard(two)
        await one.replicaof('NO', 'ONE')
        proxy.switchTo(first.port)
      },
    })
    await ends(world, world.refresh(), 'FLIPPED')
    expect(moment.isOver).toBe(true)
    await holds(world)

    // Over to the second again, which has heard of nothing since the build began.
    await change(world)
    await follows(two, first)
    moment.arm('data.begin', {
      before: async () => {
        await heard(one)
        await two.replicaof('NO', 'ONE')
        moment.arm('pointer.swap', { after: async () => proxy.switchTo(second.port) })
      },
    })
    await ends(world, world.refresh(), 'ROLLED_BACK')
    expect(moment.isOver).toBe(true)
    await holds(world, { hasLost: true })
  })
})

describe.concurrent('Temporal that is restarted in continuous mode', () => {
  it('goes on: what is written while it is away is served afterwards, by the same workflow', async ({
    onTestFinished,
  }) => {
    const dbFilename = join((await testFolder()).path, 'temporal.db')
    let server = await startTemporal({ dbFilename })
    onTestFinished(() => server.stop())
    const continuous = { atMostEveryMs: 200 }
    const world = await makeWorld({
      ...SHOP,
      dataset: { ...SHOP.dataset, schedule: { continuous } },
      temporal: { address: server.address, namespace: server.namespace },
      onFinished: onTestFinished as OnFinished,
    })
    const { client, dataset } = world
    await world.worker()
    await putContinuous(client, { dataset, ...continuous, taskQueue: world.config.temporal.taskQueue })
    const serves = (price: number) =>
      vi.waitFor(async () => {
        const reader = await world.reader()
        expect(await reader.get('products', '1')).toBe(price)
      }, 60_000)
    await serves(1)
    const run = async () => (await client.workflow.getHandle(WORKFLOW_ID.continuous(dataset)).describe()).runId
    const before = await run()

    await server.stop()
    await change(world)
    server = await startTemporal({ dbFilename, port: Number(new URL(`http://${server.address}`).port) })
    await serves(2)
    expect(await run()).toBe(before)
    await change(world)
    await serves(3)
    expect((await continuousState(client, dataset))?.last[0]).toMatchObject({ status: 'FLIPPED' })
    await verifyHistory(world.pool)
    await removeContinuous(client, dataset)
  })
})
