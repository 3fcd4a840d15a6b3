import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Context } from '@temporalio/activity'
import { describe, expect, it } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { takeBack } from '../../activities/flip-back.ts'
import { followAll, takeOverUnregistered } from '../../activities/follow.ts'
import { pinDataset, unpinDataset } from '../../activities/pin.ts'
import { releaseVersion } from '../../activities/quarantine.ts'
import type { Hold } from '../../schemas/pointer.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { open } from '../../src/index.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { applyStore } from '../../src/registry/apply-store.ts'
import { forgetCopies } from '../../src/registry/copies.ts'
import { furtherStores } from '../../src/registry/further-stores.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { servedAt } from '../../src/registry/served-at.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { version } from '../../src/registry/version.ts'
import { decodeManifest, manifestHash } from '../../src/snapshot/manifest.ts'
import { verifyVersion } from '../../src/snapshot/verify.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import type { PointerRead } from '../../src/stores/ports.ts'
import { faultyStore, type StoreOperation } from '../stores/faults.ts'
import { testBucket, testFolder, testRedis } from '../support/services.ts'
import { aroundFurther, makeWorld, type World, type WorldOptions } from '../support/world.ts'
import { onceIn, SHOP, worldOnRedis } from '../support/world-on-redis.ts'

const never = new AbortController().signal

async function refreshWith(world: World, price: number): Promise<string> {
  await world.pool.query('update products set price = $1 where id <= 20', [price])
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  return outcome.tag as string
}

/** The version in this store, read whole. */
async function soundDigest(world: World, name: string, tag: string): Promise<string> {
  const { data } = await world.store(name)
  const bytes = await data.readManifest(tag)
  if (bytes === null) throw new Error(`${name} has no ${tag}`)
  const { problems, digest } = await verifyVersion(data, decodeManifest(bytes, { dataset: world.dataset, tag }), {
    signal: never,
  })
  expect(problems).toEqual([])
  return digest
}

async function priceIn(world: World, name: string): Promise<unknown> {
  const reader = await open(world.config.stores[name] as string, world.dataset)
  try {
    return ((await reader.get('products', 7)) as { price: number }).price
  } finally {
    await reader.close()
  }
}

const kindsOf = async (world: World) =>
  (await historyEntries(world.pool, { dataset: world.dataset })).map(({ kind }) => kind).reverse()

const standing = async (world: World) =>
  (await furtherStores(world.pool, world.dataset)).map(({ name, state, tag }) => ({ name, state, tag }))

/** A worker for which this store fails, in these calls, while there is a `code` to fail with: none to be mended by waiting, so that nothing is waited for. */
function failing(
  name: string,
  operations: readonly StoreOperation[],
  code: () => 'STORE_UNSUITABLE' | 'CORRUPT' | null,
): (deps: Deps) => Deps {
  return aroundFurther(name, {
    run: async (operation, call) => {
      const fault = operations.includes(operation) ? code() : null
      if (fault !== null) throw new SnapflipError(fault, 'a fault of the test')
      return call()
    },
  })
}

async function redisAndFolder(more: object = {}): Promise<World> {
  const [redis, folder] = [await testRedis(), await testFolder()]
  return makeWorld({
    ...SHOP,
    dataset: { ...SHOP.dataset, ...more },
    storeUrl: redis.url,
    furtherStores: { archive: `file:${join(folder.path, 'archive')}` },
  })
}

it('a version is staged in every store and then flipped to in the declared order, with the same content everywhere', async () => {
  const [bucket, redis, folder] = [await testBucket(), await testRedis(), await testFolder()]
  const world = await makeWorld({
    ...SHOP,
    storeUrl: bucket.url,
    furtherStores: { hot: redis.url, archive: `file:${join(folder.path, 'archive')}` },
  })
  await world.worker()
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const { active, epoch, flips, previous } = await world.pointer()
  expect(active?.tag).toBe(second)
  for (const name of ['hot', 'archive']) {
    const pointer = await world.pointer(name)
    expect(pointer).toMatchObject({
      epoch,
      flips,
      active: { tag: second, digest: active?.digest },
      previous: { tag: first },
    })
    for (const ref of [pointer.active, pointer.previous])
      expect(await soundDigest(world, name, ref?.tag as string)).toBe(ref?.digest)
    expect(pointer.previous?.digest).toBe(previous?.digest)
    expect(await priceIn(world, name)).toBe(2)
  }
  const kinds = await kindsOf(world)
  const since = kinds.slice(kinds.lastIndexOf('version.sealed'))
  expect(since.filter((kind) => /^(version.copied|flip|store)/.test(kind))).toEqual([
    'version.copied',
    'version.copied',
    'flip.intended',
    'flip.confirmed',
    'store.followed',
    'store.followed',
  ])
  expect(await standing(world)).toEqual([
    { name: 'archive', state: 'current', tag: second },
    { name: 'hot', state: 'current', tag: second },
  ])
  const entries = await historyEntries(world.pool, { dataset: world.dataset })
  const followed = entries.filter(({ kind, version }) => kind === 'store.followed' && version === second)
  expect(followed.map(({ detail }) => (detail as { name: string }).name).reverse()).toEqual(['hot', 'archive'])

  // Nothing new, a hold and a rollback are taken over as well.
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect((await world.pointer('hot')).freshAsOf).toEqual((await world.pointer()).freshAsOf)
  await world.hold('to look at it')
  for (const name of ['hot', 'archive']) expect((await world.pointer(name)).hold?.reason).toBe('to look at it')
  await world.resume()
  for (const name of ['hot', 'archive']) expect((await world.pointer(name)).hold).toBeNull()
  await world.rollback({ reason: 'prices are off' })
  for (const name of ['main', 'hot', 'archive']) {
    expect(await world.pointer(name)).toMatchObject({
      active: { tag: first },
      quarantined: [second],
      hold: { reason: 'prices are off' },
      epoch: (await world.pointer()).epoch,
    })
    expect(await priceIn(world, name)).toBe(1)
  }
})

it('a store that cannot be copied to stays behind, visibly, and is brought up by the next refresh', async () => {
  const world = await redisAndFolder()
  let broken: 'STORE_UNSUITABLE' | 'CORRUPT' | null = null
  await world.worker(failing('archive', ['writer.finish', 'pointer.swap'], () => broken))
  const first = await refreshWith(world, 1)
  broken = 'STORE_UNSUITABLE'
  const second = await refreshWith(world, 2)
  expect((await world.pointer()).active?.tag).toBe(second)
  expect((await world.pointer('archive')).active?.tag).toBe(first)
  expect(await standing(world)).toEqual([{ name: 'archive', state: 'degraded', tag: first }])
  expect(world.logged.flatMap((line) => (line.alert === undefined ? [] : [line.alert]))).toEqual(['STORE_DEGRADED'])
  expect(await refreshWith(world, 3)).not.toBe(second)
  // The same incident.
  expect(world.logged.filter((line) => line.alert === 'STORE_DEGRADED')).toHaveLength(1)

  // What is not whole where it comes from is no fault of the store that it is copied to: readers are taken to it nowhere.
  const { active: third } = await world.pointer()
  broken = 'CORRUPT'
  await world.pool.query('update products set price = 4 where id <= 20')
  expect(failureCode(await world.refreshFailure())).toBe('CORRUPT')
  expect((await world.pointer()).active).toEqual(third)
  await world.pool.query('update products set price = 3 where id <= 20')

  broken = null
  const up = await world.refresh()
  expect(up).toMatchObject({ status: 'NOTHING_NEW' })
  expect(await world.pointer('archive')).toMatchObject({ active: { tag: up.active }, previous: { tag: second } })
  expect(await standing(world)).toEqual([{ name: 'archive', state: 'current', tag: up.active }])
  expect(await priceIn(world, 'archive')).toBe(3)

  // A pin copies nothing: a store without its version lets its readers go on, which is told, and the next refresh brings it there.
  const { dataset } = world
  const archive = await world.store('archive')
  const forget = (tag: string) =>
    forgetCopies(world.pool, { dataset, url: archive.url, tags: [tag], why: 'a fault of the test' })
  const alerts: unknown[] = []
  const deps = { ...world.changeDeps, alert: async (alert: unknown) => alerts.push(alert) > 0 }
  const looking = { dataset, tell: () => undefined, signal: never }
  const by = { by: 'ana', reason: 'an audit' }
  await forget(first)
  await archive.data.deleteManifest(first)
  await pinDataset(deps, { dataset, tag: first, until: '2100-01-01T00:00:00.000Z', ...by })
  await followAll(deps, looking)
  expect(await world.pointer('archive')).toMatchObject({ active: { tag: up.active }, pin: null })
  expect(await furtherStores(world.pool, dataset)).toMatchObject([
    { state: 'degraded', why: expect.stringContaining(`it has not ${first}`) },
  ])
  expect(new Set(alerts.map((alert) => (alert as { incident: string }).incident)).size).toBe(1)
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect((await world.pointer('archive')).pin?.version.tag).toBe(first)
  expect(await standing(world)).toEqual([{ name: 'archive', state: 'current', tag: up.active }])
  expect(await priceIn(world, 'archive')).toBe(1)
  await unpinDataset(deps, { dataset, ...by })
  expect((await world.pointer('archive')).pin).toBeNull()
  alerts.length = 0

  // A rollback without Temporal copies nothing: a store without the target keeps its readers on the bad version, which is told.
  await forget(second)
  const request = { dataset: world.dataset, reason: 'bad prices' }
  const asked = { flipId: randomUUID(), request, actor: async () => 'ana' }
  expect(await takeBack({ ...deps, config: world.config }, asked, looking)).toMatchObject({ to: second })
  await followAll(deps, looking)
  const [row] = await furtherStores(world.pool, world.dataset)
  expect(row).toMatchObject({ state: 'degraded', why: expect.stringContaining(`it has not ${second}`) })
  expect(alerts).toMatchObject([{ kind: 'STORE_DEGRADED' }])
})

it('where it is declared, a store that cannot take over the flip takes the version back everywhere', async () => {
  const world = await redisAndFolder({ publish: { onFailure: 'rollback' } })
  let broken: StoreOperation | null = null
  let isPinBroken = false
  const isOfPinned = () => isPinBroken && Context.current().info.activityType === 'follow'
  await world.worker(
    aroundFurther('archive', {
      run: async (operation, call) => {
        if (operation === broken || (operation === 'writer.finish' && isOfPinned()))
          throw new SnapflipError('STORE_UNSUITABLE', 'a fault of the test')
        return call()
      },
    }),
  )
  const first = await refreshWith(world, 1)
  broken = 'pointer.swap'
  await world.pool.query('update products set price = 2 where id <= 20')
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'ROLLED_BACK', active: first })
  expect((await world.pointer()).quarantined).toEqual([outcome.tag])
  expect((await world.pointer('archive')).active?.tag).toBe(first)

  broken = null
  await world.resume()
  expect(await world.pointer('archive')).toMatchObject({ hold: null, quarantined: [outcome.tag] })
  // Before readers anywhere are on it there is nothing to take back.
  broken = 'writer.finish'
  await world.pool.query('update products set price = 3 where id <= 20')
  await world.refreshFailure()
  expect((await world.pointer()).active?.tag).toBe(first)

  // Nor is a version taken back because one that readers are pinned to, older, cannot be copied: readers there go on, and are said to be on it.
  broken = null
  const second = await refreshWith(world, 4)
  const { dataset, pool } = world
  const archive = await world.store('archive')
  await forgetCopies(pool, { dataset, url: archive.url, tags: [first], why: 'a fault of the test' })
  await archive.data.deleteManifest(first)
  const until = '2100-01-01T00:00:00.000Z'
  await pinDataset(world.changeDeps, { dataset, tag: first, until, by: 'ana', reason: 'an audit' })
  const stood = async () => (await servedAt(pool, dataset, new Date(Date.now() + 60_000))).stores
  const why = expect.stringContaining(first)
  expect(await stood()).toMatchObject([{ state: 'degraded', tag: second, why }])
  const { since } = (await furtherStores(pool, dataset))[0] ?? {}
  isPinBroken = true
  const third = await refreshWith(world, 5)
  expect(await world.pointer('archive')).toMatchObject({ active: { tag: third }, pin: null })
  expect(await stood()).toMatchObject([{ state: 'degraded', tag: third, why }])
  expect(await furtherStores(pool, dataset)).toMatchObject([
    { state: 'degraded', tag: third, since, flipId: (await world.pointer()).flipId },
  ])
  isPinBroken = false
  await world.refresh()
  expect((await world.pointer('archive')).pin?.version.tag).toBe(first)
  expect(await stood()).toMatchObject([{ state: 'current', tag: third }])
})

it('a first store that came back empty is built back from a further one, with what a rollback goes to', async () => {
  const folder = await testFolder()
  const archive = `file:${join(folder.path, 'archive')}`
  const { world, restart } = await worldOnRedis({}, { furtherStores: { archive } })
  await world.worker()
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const before = await world.pointer()
  await restart({ empty: true })
  const outcome = await world.refresh()
  // Nothing was built, and no epoch was used up.
  expect(outcome).toMatchObject({ status: 'NOTHING_NEW', active: second })
  const after = await world.pointer()
  expect(after).toMatchObject({ epoch: before.epoch, flips: before.flips, quarantined: [] })
  expect(await soundDigest(world, 'main', second)).toBe(before.active?.digest)
  expect(await priceIn(world, 'main')).toBe(2)
  expect(await kindsOf(world)).toContain('version.restored')

  // The next build goes on from it.
  await world.pool.query('update products set price = 3 where id <= 20')
  const third = await world.refresh()
  expect(third.summary).toMatch(/products: \+0 ~20 -0 of 300/)

  await restart({ empty: true })
  expect(await world.rollback({ to: first })).toMatchObject({ from: third.tag, to: first })
  expect(await priceIn(world, 'main')).toBe(1)
  expect(await soundDigest(world, 'main', first)).toBe((await world.pointer('archive')).active?.digest)

  // What was copied back is gone forward to as ever.
  const tag = third.tag as string
  await releaseVersion(world.changeDeps, { dataset: world.dataset, tag, by: 'ana', reason: 'fine' })
  await world.resume()
  const forward = await world.client.workflow.execute('flipTo', {
    workflowId: WORKFLOW_ID.flipTo(world.dataset),
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset: world.dataset, to: tag, reason: 'it was the reader' }],
  })
  expect(forward).toMatchObject({ status: 'FLIPPED', from: first, to: tag })
  expect(await priceIn(world, 'main')).toBe(3)
})

it('a further Redis that restarts while it takes over a flip has it afterwards; one that comes back empty in a bake is told of', async () => {
  const bake = { forMs: 2_000, drift: { sample: 0 } }
  const { world, restart } = await worldOnRedis({ bake }, { redisAs: 'near' })
  let empty = false
  const follow = onceIn('follow', 'pointer.swap', () => restart({ empty }))
  await world.worker(aroundFurther('near', follow))
  await refreshWith(world, 0)
  for (const price of [1, 2]) {
    empty = price === 2
    follow.armed = true
    const tag = await refreshWith(world, price)
    expect(follow.armed).toBe(false)
    expect(await world.pointer('near')).toMatchObject({ active: { tag }, bake: null })
    expect(await priceIn(world, 'near')).toBe(price)
  }
  expect(await standing(world)).toMatchObject([{ state: 'current' }])
  expect(world.logged.filter(({ alert }) => alert !== undefined)).toEqual([])

  const before = await world.pointer()
  const third = refreshWith(world, 3)
  await waitUntil('a flip in both', async () => {
    const [main, near] = [await world.pointer(), await world.pointer('near')]
    return main.flipId !== before.flipId && near.flipId === main.flipId ? near : undefined
  })
  await restart({ empty: true })
  await third
  expect(await standing(world)).toMatchObject([{ name: 'near', state: 'degraded' }])
  expect(world.logged.map(({ alert }) => alert)).toContain('STORE_DEGRADED')
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect(await world.pointer('near')).toMatchObject({ active: { tag: await third }, bake: null })
  expect(await priceIn(world, 'near')).toBe(3)
  expect((await world.pointer('near')).flipId).toBe((await world.pointer()).flipId)
  await verifyHistory(world.pool)
})

it('a version that is leased in one store stays there, and is swept in the others', async () => {
  const world = await redisAndFolder({ keep: 2 })
  await world.worker()
  const first = await refreshWith(world, 1)
  const reader = await open(world.config.stores.archive as string, world.dataset)
  const pin = await reader.pin()
  expect(pin.version.tag).toBe(first)
  for (const price of [2, 3, 4]) await refreshWith(world, price)
  const manifestsIn = async (name: string) => (await world.store(name)).data.listManifests()
  expect((await version(world.pool, world.dataset, first)).state).toBe('swept')
  expect(await manifestsIn('main')).not.toContain(first)
  expect(await manifestsIn('archive')).toContain(first)
  const keys = Array.from({ length: 300 }, (_, n) => String(n + 1))
  const values = (await pin.getMany('products', keys)) as Array<{ price: number }>
  expect(values.map(({ price }) => price)).toEqual(keys.map((key) => (Number(key) <= 20 ? 1 : Number(key) * 10)))

  await pin.end()
  await reader.close()
  const last = await refreshWith(world, 5)
  expect(await manifestsIn('archive')).not.toContain(first)
  expect((await world.pointer('archive')).retired).toEqual([])
  expect((await manifestsIn('archive')).sort()).toEqual((await manifestsIn('main')).sort())
  expect(await soundDigest(world, 'archive', last)).toBe((await world.pointer()).active?.digest)
})

it('a store that lost all, or that another registry publishes to, is noticed; and a late write takes nothing back', async () => {
  const folder = await testFolder()
  const path = join(folder.path, 'archive')
  const redis = await testRedis()
  const world = await makeWorld({ ...SHOP, storeUrl: redis.url, furtherStores: { archive: `file:${path}` } })
  const seen: Deps[] = []
  await world.worker((deps) => {
    seen.push(deps)
    return deps
  })
  const first = await refreshWith(world, 1)
  const deps = seen[0] as Deps
  const looking = { dataset: world.dataset, tell: () => undefined, signal: never }
  const archive = () => world.pointer('archive')

  // Held when this one reads the first store; lifted, and taken over by another, before this one writes.
  await world.hold('to look at it')
  await changePointer(
    (await world.store('archive')).pointer,
    { kind: 'resume', holds: [(await archive()).hold as Hold] },
    { dataset: world.dataset },
  )
  const main = await deps.store(world.dataset)
  let isLate = true
  const late = faultyStore(main, {
    run: async (operation, call) => {
      const result = await call()
      // The first look only asks whether it answers.
      if (operation === 'pointer.read' && isLate && reads++ === 1) {
        isLate = false
        await world.resume()
      }
      return result
    },
  })
  let reads = 0
  await followAll({ ...deps, store: async () => late }, looking)
  expect(isLate).toBe(false)
  expect((await archive()).hold).toBeNull()

  // A first store that does not answer leaves no other behind.
  const silent = faultyStore(main, {
    run: async (operation, call) => {
      if (operation === 'pointer.read') throw new SnapflipError('STORE_UNREACHABLE', 'a fault of the test')
      return call()
    },
  })
  await followAll({ ...deps, store: async () => silent }, looking)
  expect(await standing(world)).toEqual([{ name: 'archive', state: 'current', tag: first }])

  await rm(join(path, world.dataset), { recursive: true })
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect((await archive()).active?.tag).toBe(first)
  expect(await priceIn(world, 'archive')).toBe(1)

  // With PostgreSQL down it takes over what the first store says, too.
  const hold = { by: 'ana', reason: 'by hand', at: new Date().toISOString() }
  await changePointer(main.pointer, { kind: 'hold', hold }, { dataset: world.dataset })
  const further = { name: 'archive', store: await world.store('archive') }
  expect(await takeOverUnregistered(main, further, world.dataset)).toBe(true)
  expect(await archive()).toMatchObject({ hold, active: { tag: first } })
  expect(await priceIn(world, 'archive')).toBe(1)

  // As another registry leaves it.
  const { pointer } = await world.store('archive')
  const read = (await pointer.read()) as PointerRead
  const foreign = { ...read.pointer, flipId: randomUUID(), flips: [], hold: null }
  await pointer.swap(read.token, foreign)
  await world.hold('to look at it')
  expect(await archive()).toEqual(foreign)
  const [row] = await furtherStores(world.pool, world.dataset)
  expect(row).toMatchObject({ state: 'degraded', why: expect.stringMatching(/Another registry publishes/) })
})

it('a further store takes the place of the first without a build, and the first its place', async () => {
  const world = await redisAndFolder()
  const worker = await world.worker()
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  worker.shutdown()
  await worker.run

  const { dataset, pool, config } = world
  const definition = config.datasets[dataset] as NonNullable<(typeof config.datasets)[string]>
  definition.stores = ['archive', 'main']
  await world.apply()
  const archive = await world.store('archive')
  const holds = async ({ tag, manifestSha256 }: { tag: string; manifestSha256: string }) =>
    manifestHash((await archive.data.readManifest(tag)) ?? Buffer.alloc(0)) === manifestSha256
  const sealed = await version(pool, dataset, second)
  expect(await applyStore(pool, { dataset, url: archive.url, by: 'ana', holds })).toMatchObject({
    movedFrom: (await world.store('main')).url,
  })
  // It lies elsewhere, so it has another manifest; what was approved is the one that it was sealed with.
  const moved = await version(pool, dataset, second)
  expect(moved.manifestSha256).not.toBe(sealed.manifestSha256)
  expect(moved.sealedManifestSha256).toBe(sealed.manifestSha256)
  await world.worker()
  await pool.query('update products set price = 3 where id <= 20')
  const third = await world.refresh()
  expect(third).toMatchObject({ status: 'FLIPPED', summary: expect.stringMatching(/products: \+0 ~20 -0 of 300/) })
  for (const name of ['archive', 'main']) {
    expect(await world.pointer(name)).toMatchObject({ active: { tag: third.tag }, previous: { tag: second } })
    expect(await priceIn(world, name)).toBe(3)
  }
  await world.rollback({ to: first })
  for (const name of ['archive', 'main']) expect(await priceIn(world, name)).toBe(1)
})

describe.concurrent('a worker that is killed', () => {
  it.for([
    ['while it copies', { at: 'leases.put', when: 'after', nth: 2 }],
    ['between the flips of two stores', { at: 'activity.follow', when: 'before', nth: 2 }],
  ] as const)('%s: the next one publishes to all', async ([, fault], { onTestFinished }) => {
    const [redis, folder] = [await testRedis(), await testFolder()]
    const world = await makeWorld({
      ...SHOP,
      storeUrl: redis.url,
      furtherStores: { one: `file:${join(folder.path, 'one')}`, two: `file:${join(folder.path, 'two')}` },
      onFinished: onTestFinished as NonNullable<WorldOptions['onFinished']>,
    })
    const killed = await world.workerProcess({ ...fault, how: 'SIGKILL' })
    await refreshWith(world, 1)
    await killed.arm()
    await world.pool.query('update products set price = 2 where id <= 20')
    const refresh = world.refresh()
    await killed.fault()
    await world.worker()
    const outcome = await refresh
    expect(outcome).toMatchObject({ status: 'FLIPPED' })
    const { epoch, active } = await world.pointer()
    for (const name of ['one', 'two']) {
      expect(await world.pointer(name)).toMatchObject({ epoch, active: { tag: outcome.tag, digest: active?.digest } })
      expect(await soundDigest(world, name, outcome.tag as string)).toBe(active?.digest)
    }
    await verifyHistory(world.pool)
  })
})
