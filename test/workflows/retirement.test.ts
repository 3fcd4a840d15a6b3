import { randomBytes } from 'node:crypto'
import { mkdir, readdir, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Context } from '@temporalio/activity'
import { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { liftExpiredPin, pinDataset, unpinDataset } from '../../activities/pin.ts'
import type { DatasetDefinition } from '../../schemas/config.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { restoreVersion } from '../../src/registry/restore-version.ts'
import { version } from '../../src/registry/version.ts'
import { LEASE_TTL_MAX_MS } from '../../src/stores/unreadable-lease.ts'
import type { StoreOperation } from '../stores/faults.ts'
import { testRedis } from '../support/services.ts'
import { expectSound } from '../support/soundness.ts'
import { around, makeWorld, type World } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n from generate_series(1, 500) n`,
  dataset: { keep: 2, indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

async function refreshAfter(world: World, change: string): Promise<string> {
  await world.pool.query(change)
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  return outcome.tag as string
}

const stateOf = async (world: World, tag: string) => (await version(world.pool, world.dataset, tag)).state
const EVERYTHING = 'update products set price = price + 1'

it('a pinned version is whole for as long as the pin lasts, and swept afterwards', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const first = await refreshAfter(world, 'select')
  const pin = await (await world.reader()).pin()
  expect(pin.version.tag).toBe(first)
  for (let n = 0; n < 3; n++) await refreshAfter(world, EVERYTHING)
  expect(await stateOf(world, first)).toBe('retired')
  const store = await world.store()
  expect(await store.data.listManifests()).toContain(first)
  // Another reader has none of its blocks in a cache.
  const second = await (await world.reader()).pin().then((active) => active.version.tag)
  expect(second).not.toBe(first)
  const keys = Array.from({ length: 500 }, (_, n) => String(n + 1))
  expect(await pin.getMany('products', keys)).toEqual(keys.map(Number))

  await pin.end()
  await refreshAfter(world, EVERYTHING)
  expect(await stateOf(world, first)).toBe('swept')
  expect(await store.data.listManifests()).not.toContain(first)
  await expectSound(world)
})

it('after a wrong server answered for a while, and versions were copied into it, the right one is swept and rolled back in as ever', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const { pool, dataset } = world
  const first = await refreshAfter(world, 'select')
  const second = await refreshAfter(world, EVERYTHING)
  const sealed = await version(pool, dataset, second)
  for (const tag of [first, second]) {
    const { digest } = await version(pool, dataset, tag)
    const copy = { manifest: randomBytes(32).toString('hex'), generation: randomBytes(16).toString('hex') }
    const where = { url: (await world.store()).url, from: 'file:/archive' }
    await restoreVersion(pool, { dataset, tag, digest: digest as string, ...copy, ...where })
  }
  const third = await refreshAfter(world, EVERYTHING)
  expect(await stateOf(world, first)).toBe('swept')
  expect(await world.rollback()).toMatchObject({ status: 'ROLLED_BACK', from: third, to: second })
  const { manifestSha256, generation } = sealed
  expect((await world.pointer()).active).toMatchObject({ tag: second, manifest: manifestSha256 })
  expect(await version(pool, dataset, second)).toMatchObject({ manifestSha256, generation })
  expect(await historyEntries(pool, { dataset, kind: 'alert' })).toEqual([])
  await expectSound(world)
})

it('a version whose mark was undone before its deletion, or may have been, is not deleted', async () => {
  const world = await makeWorld(SHOP)
  let next: 'undo' | 'restart' | 'look' | 'nothing' = 'undo'
  await world.worker(
    around({
      async run(operation, call) {
        if (operation === 'pointer.isBound' && next === 'look') {
          next = 'nothing'
          return false
        }
        const result = await call()
        if (operation !== 'leases.list' || next === 'nothing') return result
        const { pointer } = await world.store()
        const read = await pointer.read()
        if (read === null || read.pointer.retired.length === 0) return result
        if (next === 'restart') next = 'look'
        // As a failover does, after the mark was made and before anything is deleted.
        else if (next === 'undo' && (await pointer.swap(read.token, { ...read.pointer, retired: [] }))) next = 'restart'
        return result
      },
    }),
  )
  const first = await refreshAfter(world, 'select')
  for (let n = 0; n < 2; n++) await refreshAfter(world, EVERYTHING)
  for (const then of ['restart', 'nothing']) {
    expect(next).toBe(then)
    expect(await stateOf(world, first)).toBe('retired')
    expect(await (await world.store()).data.listManifests()).toContain(first)
    // Marked again by the next sweep.
    await refreshAfter(world, EVERYTHING)
  }
  expect(await stateOf(world, first)).toBe('swept')
  await expectSound(world)
})

it('what an operator pins is not retired until the pin is lifted or expires; a repair brings it back', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const first = await refreshAfter(world, 'select')
  const second = await refreshAfter(world, EVERYTHING)
  const request = { dataset: world.dataset, tag: first, by: 'ana', reason: 'audit' }
  const until = new Date(Date.now() + 3_600_000).toISOString()
  await pinDataset(world.changeDeps, { ...request, until })
  for (let n = 0; n < 3; n++) await refreshAfter(world, EVERYTHING)
  expect(await stateOf(world, first)).toBe('retained')
  expect(await stateOf(world, second)).toBe('swept')
  expect(await world.pointer()).toMatchObject({ pin: { version: { tag: first }, until, by: 'ana', reason: 'audit' } })
  // A worker whose clock is ahead takes nobody off it.
  await liftExpiredPin(world.changeDeps, await world.store(), world.dataset, Date.parse(until) + 1)
  expect((await world.pointer()).pin).not.toBeNull()
  expect((await knownPointer(world.pool, world.dataset))?.pin).toEqual((await world.pointer()).pin)
  await expect(pinDataset(world.changeDeps, { ...request, tag: second, until })).rejects.toMatchObject({
    code: 'CONFLICT',
  })

  expect(await unpinDataset(world.changeDeps, request)).toEqual({ lifted: first })
  expect(await unpinDataset(world.changeDeps, request)).toEqual({ lifted: null })
  expect((await world.pointer()).pin).toBeNull()
  await pinDataset(world.changeDeps, { ...request, until: new Date(Date.now() + 50).toISOString() })
  await refreshAfter(world, EVERYTHING)
  expect((await world.pointer()).pin).toBeNull()
  expect(await stateOf(world, first)).toBe('swept')
  const kinds = (await historyEntries(world.pool, { dataset: world.dataset, version: first }))
    .map(({ kind }) => kind)
    .filter((kind) => kind.endsWith('pin'))
  expect(kinds).toEqual(['unpin', 'pin', 'unpin', 'pin'])
  await expectSound(world)
})

it('a row of refused versions is one incident, and as many stay as are kept, though nothing flips; a build that fails makes room too', async () => {
  const gates = { changeVolume: { updated: { percent: 50, atLeast: 10, verdict: 'reject' } } } as const
  const world = await makeWorld({ ...SHOP, dataset: { ...SHOP.dataset, gates, keep: 3 } })
  let failing: { activity: string; operation: StoreOperation } | null = null
  await world.worker(
    around({
      async run(operation, call) {
        const isHere = operation === failing?.operation && Context.current().info.activityType === failing.activity
        if (isHere) throw new SnapflipError('STORE_FULL', 'no room')
        return call()
      },
    }),
  )
  const first = await refreshAfter(world, 'select')
  const refused = async () => {
    await world.pool.query(EVERYTHING)
    const { status, tag } = await world.refresh()
    expect(status).toBe('REJECTED')
    return tag as string
  }
  const kept = async () => (await (await world.store()).data.listManifests()).sort()
  const [one, two, three] = [await refused(), await refused(), await refused()]
  expect(await kept()).toEqual([first, one, two, three])

  const definition = world.config.datasets[world.dataset] as DatasetDefinition
  world.config.datasets[world.dataset] = { ...definition, keep: 2 }
  await world.apply()
  failing = { activity: 'build', operation: 'data.putManifest' }
  await world.pool.query(EVERYTHING)
  expect(failureCode(await world.refreshFailure())).toBe('STORE_FULL')
  expect(await kept()).toEqual([first, two, three])

  failing = { activity: 'retire', operation: 'pointer.swap' }
  const four = await refused()
  expect(await kept()).toEqual([first, two, three, four])
  const told = await historyEntries(world.pool, { dataset: world.dataset, kind: 'alert.compensation_failed' })
  expect(told).toHaveLength(1)
  failing = null
  const five = await refused()
  expect(await kept()).toEqual([first, four, five])

  const incidents = async () =>
    (
      await world.pool.query(
        "select version, times from snapflip.alerts where kind = 'GATE_REFUSED' order by raised_at",
      )
    ).rows
  expect(await incidents()).toEqual([{ version: one, times: 5 }])
  await refreshAfter(world, 'update products set price = id where id <> 7')
  await expectSound(world)
  const anew = await refused()
  expect((await incidents()).slice(1)).toEqual([{ version: anew, times: 1 }])
})

it('after many refreshes every kept version is whole, and a folder is as large as it was', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const sizes: number[] = []
  for (let n = 1; n <= 10; n++) {
    // Now and then everything, else a few rows: blocks of many generations stay alive.
    await refreshAfter(world, n % 5 === 1 ? EVERYTHING : `${EVERYTHING} where id % 17 = ${n}`)
    await expectSound(world)
    sizes.push(await folderSize(world))
  }
  // Which packs are repacked when is chance; what is never swept would double it.
  expect(Math.max(...sizes.slice(6))).toBeLessThan(1.25 * Math.max(...sizes.slice(0, 6)))
})

it('after many refreshes Redis holds as many keys as before', async () => {
  const redis = await testRedis()
  const world = await makeWorld({ ...SHOP, storeUrl: `${redis.url}?prefix=${redis.prefix}` })
  await world.worker()
  const client = new Redis(redis.url)
  const keys = async () => {
    let count = 0
    for await (const found of client.scanStream({ match: `*${redis.prefix}*`, count: 1000 })) count += found.length
    return count
  }
  const counts: number[] = []
  try {
    for (let n = 1; n <= 8; n++) {
      await refreshAfter(world, n % 4 === 1 ? EVERYTHING : `${EVERYTHING} where id % 17 = ${n}`)
      if (n % 4 === 0) counts.push(await keys())
    }
    await expectSound(world)
  } finally {
    client.disconnect()
  }
  expect(counts[0]).toBeGreaterThan(20)
  expect(counts[1]).toBeLessThanOrEqual(1.1 * (counts[0] as number))
})

it('a generation that a paused worker began after it was given up is found by the store’s journal and swept', async () => {
  const world = await makeWorld(SHOP)
  const paused = Promise.withResolvers<void>()
  const letGo = Promise.withResolvers<void>()
  const finished = Promise.withResolvers<void>()
  let isFirst = true
  await world.worker(
    around({
      run: async (operation, call) => {
        if (operation === 'data.begin' && isFirst) {
          isFirst = false
          paused.resolve()
          await letGo.promise
          return call().finally(finished.resolve)
        }
        return call()
      },
    }),
  )
  const { taskQueue } = world.config.temporal
  const terminated = await world.client.workflow.start('refresh', {
    workflowId: WORKFLOW_ID.refresh(world.dataset),
    taskQueue,
    args: [{ dataset: world.dataset }],
  })
  await paused.promise
  await terminated.terminate('a test')
  await refreshAfter(world, 'select')
  const store = await world.store()
  expect(await store.data.generations()).toHaveLength(1)
  letGo.resolve()
  await finished.promise
  expect(await store.data.generations()).toHaveLength(2)
  await refreshAfter(world, EVERYTHING)
  expect(await store.data.generations()).toHaveLength(2)
  await expectSound(world)
})

it('a generation that the registry does not know stays until it is older than any build', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const store = await world.store()
  const stranger = randomBytes(16).toString('hex')
  await (await store.data.begin(stranger)).finish()
  await refreshAfter(world, 'select')
  const generations = async () => (await store.data.generations()).map(({ generation }) => generation)
  expect(await generations()).toContain(stranger)
  const threeDaysAgo = new Date(Date.now() - 3 * 86_400_000).toISOString()
  await writeFile(join(folderOf(world, store.url), 'packs', stranger, 'begun'), threeDaysAgo)
  await refreshAfter(world, EVERYTHING)
  expect(await generations()).not.toContain(stranger)
  await expectSound(world)
})

it('what is no lease holds up retirement, with a word of it, until it is older than any lease', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const first = await refreshAfter(world, 'select')
  const stray = join(folderOf(world, (await world.store()).url), 'leases', 'stray')
  await mkdir(dirname(stray), { recursive: true })
  await writeFile(stray, '{"id": "stray", "ta')
  for (let n = 0; n < 2; n++) await refreshAfter(world, EVERYTHING)
  expect(await stateOf(world, first)).toBe('retired')
  expect(world.logged).toContainEqual(expect.objectContaining({ lease: 'stray' }))
  const longAgo = new Date(Date.now() - LEASE_TTL_MAX_MS - 120_000)
  await utimes(stray, longAgo, longAgo)
  await refreshAfter(world, EVERYTHING)
  expect(await stateOf(world, first)).toBe('swept')
  await expectSound(world)
})

it('a manifest that is put again after its version was swept is deleted', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const store = await world.store()
  const first = await refreshAfter(world, 'select')
  const bytes = (await store.data.readManifest(first)) as Uint8Array
  for (let n = 0; n < 3; n++) await refreshAfter(world, EVERYTHING)
  expect(await stateOf(world, first)).toBe('swept')
  await store.data.putManifest(first, bytes)
  await refreshAfter(world, EVERYTHING)
  expect(await store.data.readManifest(first)).toBeNull()
  await expectSound(world)
})

const folderOf = (world: World, storeUrl: string) => join(storeUrl.slice('file:'.length), world.dataset)

async function folderSize(world: World): Promise<number> {
  const folder = folderOf(world, (await world.store()).url)
  let bytes = 0
  for (const name of await readdir(folder, { recursive: true })) {
    // The pointer keeps a fixed number of revisions, whatever is retired.
    if (!name.startsWith('pointer')) bytes += (await stat(join(folder, name))).size
  }
  return bytes
}
