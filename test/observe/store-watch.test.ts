import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { breakGlass } from '../../activities/break-glass.ts'
import type { Deps } from '../../activities/deps.ts'
import { mendStore, type StoreFinding } from '../../activities/mend-store.ts'
import type { Config } from '../../schemas/config.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { connectBuilder } from '../../src/changelog/session.ts'
import { StoreWatch } from '../../src/observe/store-watch.ts'
import { detachDataset } from '../../src/registry/detach-dataset.ts'
import { flips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { lastInStores } from '../../src/registry/last-in-stores.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import type { Store } from '../../src/stores/ports.ts'
import { applyShop, aRefresh, DATASET, definition, flipped } from '../registry/shop.ts'
import { testDatabase, testFolder } from '../support/services.ts'
import type { World } from '../support/world.ts'
import { repairsOf, setBack, worldOnRedis } from '../support/world-on-redis.ts'

const LOOKS = { lookEveryMs: 100 }
const PATIENCE = { timeout: 20_000 }

async function refreshWith(world: World, price: number): Promise<string> {
  await world.pool.query('update products set price = $1 where id <= 20', [price])
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  return outcome.tag as string
}

/** As a reader finds it that comes now. */
async function priceNow(world: World): Promise<unknown> {
  const reader = await world.reader()
  return ((await reader.get('products', 7)) as { price: number } | undefined)?.price
}

const toldOf = (world: World) => world.logged.flatMap(({ alert }) => (alert === 'STORE_REBOUND' ? [alert] : []))

it('a store that lost something is found and repaired without any workflow, and told once', async () => {
  const archive = await testFolder()
  const at = join(archive.path, 'versions')
  const { world, redis, restart } = await worldOnRedis({}, { furtherStores: { archive: `file:${at}` } })
  await world.worker(undefined, LOOKS)
  const older = await refreshWith(world, 1).then(() => world.pointer())
  const tag = await refreshWith(world, 2)

  await setBack(world, redis, older)
  await expect.poll(async () => (await world.pointer()).active?.tag, PATIENCE).toBe(tag)
  await restart({ empty: true })
  await expect.poll(() => priceNow(world).catch(() => 'nothing'), PATIENCE).toBe(2)
  expect(await repairsOf(world)).toEqual(['missing, restored', 'behind, asserted'])
  expect(toldOf(world)).toEqual(['STORE_REBOUND', 'STORE_REBOUND'])

  // An older server answers for a while, without what readers are on: that is told, and readers are taken nowhere.
  await rm(at, { recursive: true })
  const right = await world.pointer()
  const manifests = `{sf:${world.dataset}}:m`
  const manifest = (await redis.hgetBuffer(manifests, tag)) as Buffer
  await redis.hdel(manifests, tag)
  await setBack(world, redis, older)
  await expect.poll(() => repairsOf(world), PATIENCE).toHaveLength(3)
  expect((await repairsOf(world))[0]).toBe('behind, left')
  expect(await world.pointer()).toEqual(older)
  await redis.hset(manifests, tag, manifest)
  await setBack(world, redis, right)

  // Nothing to bring it back to: that is told, and nothing is put into what may be the wrong server.
  await restart({ empty: true })
  await expect.poll(() => repairsOf(world), PATIENCE).toHaveLength(4)
  expect((await repairsOf(world))[0]).toBe('missing, left')
  expect(await (await world.store()).pointer.read()).toBeNull()
  expect(await historyEntries(world.pool, { dataset: world.dataset, kind: 'quarantine' })).toEqual([])
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  expect(await priceNow(world)).toBe(2)
})

it('a further store that came back empty gets back what it lost, without any workflow; what was rolled back without the registry is baked', async () => {
  const bake = { forMs: 600_000, whileBaking: 'end', drift: { sample: 0 } } as const
  const { world, restart } = await worldOnRedis({ bake }, { redisAs: 'copy' })
  let deps: Deps | undefined
  await world.worker((given) => {
    deps = given
    return given
  }, LOOKS)
  const tag = await refreshWith(world, 1)
  await refreshWith(world, 2)
  const { dataset } = world
  const looking = { dataset, tell: () => undefined, signal: new AbortController().signal }
  const made = { flipId: randomUUID(), to: null, by: 'ana@desk', reason: 'bad', at: new Date().toISOString() }
  expect(await breakGlass(await world.store(), { ...made, ...looking })).toMatchObject({ to: tag })
  await expect.poll(async () => (await world.pointer('copy')).active?.tag, PATIENCE).toBe(tag)
  await restart({ empty: true })
  await expect.poll(async () => (await world.pointer('copy').catch(() => null))?.active?.tag, PATIENCE).toBe(tag)
  await expect.poll(() => repairsOf(world), PATIENCE).toEqual(['missing, follows'])
  // Another worker looked before that.
  const [last] = (await lastInStores(world.pool, [dataset])).filter(({ url }) => url.startsWith('redis:'))
  const finding = { dataset, store: 'copy', found: 'missing', last } as StoreFinding
  const lock = [`snapflip: the stores of ${dataset}`]
  const isFree = async () =>
    (await world.pool.query('select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as mine', lock)).rows[0].mine
  await expect.poll(isFree, PATIENCE).toBe(true)
  expect(await mendStore(deps as Deps, finding, looking.signal)).toBe('elsewhere')
  expect(toldOf(world)).toEqual(['STORE_REBOUND'])
  // How it ends is shown where bakes are: here it is over before anybody could tell how long it took.
  const watch = world.client.workflow.getHandle(WORKFLOW_ID.bake(dataset, made.flipId))
  const status = () =>
    watch.describe().then(
      (described) => described.status.name,
      () => 'none',
    )
  await expect.poll(status, PATIENCE).toBe('RUNNING')
  expect(await historyEntries(world.pool, { dataset, kind: 'rollback.absorbed' })).toHaveLength(1)
})

it('a store that does not answer holds up the look at no other, and one that was made elsewhere is not looked at', async () => {
  const { pool, drop } = await testDatabase()
  await applyShop(pool)
  await flipped(pool, null)
  const config = {
    stores: { hot: 'file:./hot', cold: 'file:./cold', warm: 'file:./warm', other: 'file:./other' },
    datasets: { [DATASET]: { ...definition(), stores: ['hot', 'cold', 'warm', 'other'] } },
  } as unknown as Config
  const found: StoreFinding[] = []
  const empty = { read: async () => null, isBound: async () => true }
  const hangs = { read: () => new Promise(() => undefined), isBound: async () => true }
  const [last] = await flips(pool, DATASET)
  const asConfirmed = {
    epoch: { registry: last?.epoch, breakGlass: 0 },
    flips: [{ flipId: last?.flipId }],
    breakGlass: [],
  }
  const restarted = { read: async () => ({ pointer: asConfirmed, token: 't' }), isBound: async () => false }
  await pool.query(
    `insert into snapflip.further_stores (dataset, store, name, state, flip_id)
     select $1, url, url, 'current', id::text from snapflip.flip_intents, unnest(array['hot', 'cold', 'warm']) as url`,
    [DATASET],
  )
  const named = (url: string, of: object) => ({ name: url, store: { url, pointer: of } as unknown as Store })
  const watch = new StoreWatch({
    config,
    pool,
    store: async () => named('hot', hangs).store,
    furtherStores: async () => [named('cold', empty), named('warm', restarted), named('other', empty)],
    startBake: async () => false,
    endDeadCanary: async () => undefined,
    mend: async (finding) => {
      found.push(finding)
      return 'done'
    },
    log: { warn: () => undefined } as never,
    everyMs: 10,
  })
  watch.start()
  const findings = () => [...new Set(found.map((one) => `${one.store} ${one.found}`))].sort()
  await expect.poll(findings, PATIENCE).toEqual(['cold missing', 'warm rebound'])
  await watch.close()
  await drop()
})

it('a store is left alone while another worker mends it, or whoever makes a flip that is on its way would', async () => {
  const { pool, url, drop } = await testDatabase()
  await applyShop(pool)
  const active = await flipped(pool, null)
  const [last] = await flips(pool, DATASET)
  const config = { datasets: { [DATASET]: definition() } }
  const touched = async () => {
    throw new Error('the store was touched')
  }
  const running = new Set<string>()
  let isTemporalAway = false
  const isRunning = async (workflowId: string, runId?: string) => {
    if (isTemporalAway) throw new Error('Temporal is away')
    return running.has(workflowId) || running.has(`${workflowId} ${runId}`)
  }
  const log = { warn: () => undefined }
  const deps = { pool, config, log, isRunning, store: touched, builder: () => connectBuilder(url) } as unknown as Deps
  const finding = { dataset: DATASET, store: 'hot', found: 'missing', last } as unknown as StoreFinding
  const mend = () => mendStore(deps, finding, new AbortController().signal)
  await expect(mend()).rejects.toThrow('touched')

  const another = await connectBuilder(url)
  await another.query(`select pg_advisory_lock(hashtextextended('snapflip: the stores of ${DATASET}', 0))`)
  expect(await mend()).toBe('elsewhere')
  await another.end()
  await expect(mend()).rejects.toThrow('touched')

  const flipId = randomUUID()
  await intendFlip(pool, {
    flipId,
    dataset: DATASET,
    kind: 'drill',
    from: active,
    to: active,
    reason: 'a test',
    actor: null,
  })
  expect(await mend()).toBe('elsewhere')
  const olderBy = (minutes: number) =>
    pool.query(`update snapflip.flip_intents set intended_at = intended_at - $1 * interval '1 minute' where id = $2`, [
      minutes,
      flipId,
    ])
  await olderBy(10)
  await expect(mend()).rejects.toThrow('touched')
  const { rollback, rollbackBeside, flipTo, drill } = WORKFLOW_ID
  const beside = [last?.flipId, active].map((about) => rollbackBeside(DATASET, about as string))
  for (const workflowId of [rollback(DATASET), ...beside, flipTo(DATASET), drill(DATASET)]) {
    running.clear()
    running.add(workflowId)
    expect(await mend()).toBe('elsewhere')
  }
  isTemporalAway = true
  await expect(mend()).rejects.toThrow('touched')
  isTemporalAway = false
  running.clear()
  const refresh = aRefresh()
  await openRefresh(pool, refresh)
  running.add(`${refresh.workflowId} ${refresh.runId}`)
  expect(await mend()).toBe('elsewhere')
  // Another run of its id waits for its window.
  running.clear()
  running.add(`${refresh.workflowId} another`)
  await expect(mend()).rejects.toThrow('touched')
  running.add(refresh.workflowId)
  await olderBy(15)
  await expect(mend()).rejects.toThrow('touched')
  await settleFlip(pool, { flipId, outcome: 'refused', detail: {} })
  await expect(mend()).rejects.toThrow('touched')

  // A canary is open for as long as it runs.
  await pool.query(
    `insert into snapflip.canaries (id, dataset, tag, refresh_id, epoch, salt, ends_at)
     values (gen_random_uuid(), $1, $2, $3, 1, '', now() + interval '1 hour')`,
    [DATASET, active, refresh.refreshId],
  )
  expect(await mend()).toBe('elsewhere')
  await pool.query(`update snapflip.canaries set intended_at = intended_at - interval '2 minutes'`)
  await expect(mend()).rejects.toThrow('touched')
  await drop()
})

it('a further store is not looked at before it is published to, nor when its dataset is detached', async () => {
  const { pool, drop } = await testDatabase()
  await applyShop(pool)
  await flipped(pool, null)
  const [last] = await flips(pool, DATASET)
  await pool.query(
    `insert into snapflip.further_stores (dataset, store, name, state, flip_id)
     select $1, state, state, state, $2 from unnest(array['current', 'degraded', 'new', 'removed']) as state`,
    [DATASET, last?.flipId],
  )
  const further = async () => (await lastInStores(pool, [DATASET])).map(({ url }) => url).filter((url) => url !== null)
  expect((await further()).sort()).toEqual(['current', 'degraded'])
  await detachDataset(pool, { dataset: DATASET, by: 'ana', tables: [], kept: [] })
  expect(await further()).toEqual([])
  await drop()
})
