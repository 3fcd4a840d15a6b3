import { randomUUID } from 'node:crypto'
import { Context } from '@temporalio/activity'
import type { Redis } from 'ioredis'
import pg from 'pg'
import { expect, it, onTestFinished } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { pinDataset, unpinDataset } from '../../activities/pin.ts'
import { releaseVersion } from '../../activities/quarantine.ts'
import { reconcile, repair } from '../../activities/reconcile.ts'
import type { VersionRef } from '../../schemas/pointer.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { connectBuilder } from '../../src/changelog/session.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'
import { compareEpoch, type FlipChange } from '../../src/core/pointer.ts'
import { activeHold } from '../../src/registry/active-hold.ts'
import { applyStore } from '../../src/registry/apply-store.ts'
import { flips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { version } from '../../src/registry/version.ts'
import { versions } from '../../src/registry/versions.ts'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { openStore } from '../../src/stores/open.ts'
import type { Store } from '../../src/stores/ports.ts'
import { FaultPlan } from '../stores/faults.ts'
import { testFolder } from '../support/services.ts'
import { around, makeWorld, type World, type WorldOptions } from '../support/world.ts'
import { onceIn, repairsOf, SHOP, setBack, worldOnRedis } from '../support/world-on-redis.ts'

const alertsOf = (world: World) => world.logged.flatMap((line) => (line.alert === undefined ? [] : [line.alert]))

const priceOf = async (world: World, id: number) =>
  ((await (await world.reader()).get('products', id)) as { price: number } | undefined)?.price

/** Sets every price of the first rows, and flips to that. */
async function refreshWith(world: World, price: number): Promise<string> {
  await world.pool.query('update products set price = $1 where id <= 20', [price])
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  return outcome.tag as string
}

/** Cuts a byte off every block that this version wrote itself. */
async function damage(world: World, redis: Redis, tag: string): Promise<void> {
  const bytes = await (await world.store()).data.readManifest(tag)
  if (bytes === null) throw new Error(`${tag} has no manifest`)
  const { generation } = decodeManifest(bytes, { dataset: world.dataset, tag })
  const keys = await redis.keys(`sf:${world.dataset}:${Buffer.from(generation, 'hex').toString('base64url')}*`)
  expect(keys.length).toBeGreaterThan(0)
  for (const key of keys) await redis.set(key, (await redis.getBuffer(key))?.subarray(1) ?? '')
}

it('after a restart with its data, the next refresh binds the pointer anew and builds on the same version', async () => {
  const { world, restart } = await worldOnRedis()
  await world.worker()
  const first = await refreshWith(world, 1)
  const before = await world.pointer()
  await restart()
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW', active: first })
  expect({ ...(await world.pointer()), freshAsOf: null }).toEqual({ ...before, freshAsOf: null })
  expect(await repairsOf(world)).toEqual(['rebound, asserted'])
  expect(alertsOf(world)).toEqual(['STORE_REBOUND'])

  await restart()
  await world.pool.query('update products set price = 2 where id <= 20')
  const second = await world.refresh()
  expect(second.summary).toMatch(/products: \+0 ~20 -0 of 300/)
  expect(await priceOf(world, 7)).toBe(2)
})

it('after a restart, rollback works, and holds and quarantines as ever', async () => {
  const { world, restart } = await worldOnRedis()
  await world.worker()
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  await restart()
  expect(await world.rollback({ reason: 'prices are off' })).toMatchObject({ from: second, to: first })
  expect(await world.pointer()).toMatchObject({
    active: { tag: first },
    quarantined: [second],
    hold: { reason: 'prices are off' },
  })
  expect(await priceOf(world, 7)).toBe(1)

  await restart()
  // Refused, and yet the store is repaired.
  await world.refreshFailure()
  expect(await (await world.store()).pointer.isBound()).toBe(true)
  expect(await repairsOf(world)).toEqual(['rebound, asserted', 'rebound, asserted'])
})

it('a Redis that came back empty gets a full build, above every epoch that was issued', async () => {
  const { world, restart } = await worldOnRedis()
  await world.worker()
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const before = await world.pointer()
  await restart({ empty: true })

  const third = await world.refresh()
  expect(third).toMatchObject({ status: 'FLIPPED', active: third.tag })
  expect(third.summary).toMatch(/300 entries built in full/)
  const pointer = await world.pointer()
  expect(compareEpoch(pointer.epoch, before.epoch)).toBeGreaterThan(0)
  expect(pointer).toMatchObject({ active: { tag: third.tag }, previous: null, quarantined: [first, second] })
  expect(await priceOf(world, 7)).toBe(2)
  expect(await repairsOf(world)).toEqual(['missing, lost'])
  expect(alertsOf(world)).toEqual(['STORE_REBOUND'])
  for (const tag of [first, second]) expect((await version(world.pool, world.dataset, tag)).state).toBe('quarantined')
  const epochs = (await flips(world.pool, world.dataset)).map((flip) => flip.epoch)
  expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => b - a))

  // From then on all is as ever.
  const fourth = await refreshWith(world, 4)
  expect(await world.rollback()).toMatchObject({ from: fourth, to: third.tag })
  await verifyHistory(world.pool)
})

it('a rollback finds an empty Redis, says so, and the refresh after it builds', async () => {
  const { world, restart } = await worldOnRedis()
  await world.worker()
  await refreshWith(world, 1)
  await restart({ empty: true })
  expect(failureCode(await world.rollback().catch((error: unknown) => error))).toBe('NO_ACTIVE_VERSION')
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  expect(await repairsOf(world)).toEqual(['missing, lost'])
})

it('a pointer that came back older is set to the version that was confirmed', async () => {
  const { world, redis } = await worldOnRedis()
  await world.worker()
  const first = await refreshWith(world, 1)
  const older = await world.pointer()
  const second = await refreshWith(world, 2)
  const confirmed = await world.pointer()
  const reader = await world.reader()
  await setBack(world, redis, older)

  // Not followed: this reader has seen a higher epoch.
  expect(await reader.get('products', 7)).toMatchObject({ price: 2 })
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW', active: second })
  // The anchor is the store's own, until the next flip brings another.
  const { freshAsOf: _fresh, anchor: _anchor, ...found } = await world.pointer()
  expect(confirmed).toMatchObject(found)
  expect(await repairsOf(world)).toEqual(['behind, asserted'])

  await setBack(world, redis, older)
  // An earlier attempt, or a look at the stores, has repaired what the person at the prompt still saw.
  const never = new AbortController().signal
  await repair(world.changeDeps, await world.store(), { dataset: world.dataset, tell: () => undefined, signal: never })
  expect(await world.rollback({ from: first })).toMatchObject({ from: second, to: first })
})

it('a hold that a failover lost is there again; hold and pin whose lifting it lost are not', async () => {
  const { world, redis, restart } = await worldOnRedis()
  await world.worker()
  const tag = await refreshWith(world, 1)
  const free = await world.pointer()
  const by = { dataset: world.dataset, by: 'ana', reason: 'an audit' }
  await pinDataset(world.changeDeps, { ...by, tag, until: '2126-01-01T00:00:00Z' })
  await world.hold('wait for finance')
  const kept = await world.pointer()
  expect(kept.pin).not.toBeNull()
  await unpinDataset(world.changeDeps, by)
  await world.resume()
  await setBack(world, redis, kept)
  await restart()
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect(await world.pointer()).toMatchObject({ hold: null, pin: null })

  await world.hold('wait for finance')
  await setBack(world, redis, free)
  await restart()
  await world.refreshFailure()
  expect((await world.pointer()).hold).toMatchObject({ reason: 'wait for finance' })
})

it('where blocks are damaged, the newest version that is whole is asserted, told, and built upon', async () => {
  const { world, redis, restart } = await worldOnRedis()
  await world.worker()
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const third = await refreshWith(world, 3)
  await damage(world, redis, third)
  await damage(world, redis, second)
  // What the store has of the history does not go with the version that is left.
  const { anchor } = await world.pointer()
  await world.pool.query(`
    begin; set local session_replication_role = replica;
    alter table snapflip.history disable trigger all; alter table snapflip.history_head disable trigger all;
    delete from snapflip.history where seq >= ${anchor?.seq};
    update snapflip.history_head set (seq, hash) = (select seq, hash from snapflip.history order by seq desc limit 1);
    commit`)
  await restart()
  await world.pool.query('update products set price = 4 where id = 7')
  const repaired = await world.refresh()

  expect(repaired).toMatchObject({ status: 'FLIPPED' })
  expect(repaired.summary).toMatch(/products: \+0 ~20 -0 of 300/)
  expect(await priceOf(world, 7)).toBe(4)
  expect(await priceOf(world, 8)).toBe(3)
  expect(await world.pointer()).toMatchObject({
    active: { tag: repaired.tag },
    previous: { tag: first },
    hold: null,
    quarantined: expect.arrayContaining([second, third]),
    contradicted: [anchor],
  })
  const made = (await flips(world.pool, world.dataset)).find((flip) => flip.kind === 'rollback')
  expect(made).toMatchObject({ from: third, to: first, outcome: 'confirmed', detail: { isUnwatched: true } })
  expect(made?.reason).toContain(`${third} is not whole`)
  expect(await repairsOf(world)).toEqual(['rebound, moved'])
  expect(alertsOf(world)).toEqual(['STORE_REBOUND', 'HISTORY_BROKEN'])
  await verifyHistory(world.pool)
})

it('a rollback from a damaged version goes to the newest that is whole before it, once, and never forward', async () => {
  const { world, redis, restart } = await worldOnRedis({ bake: { forMs: 1_000, drift: { sample: 0 } } })
  const baked = async () => {
    const { flipId } = await world.pointer()
    return world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, flipId as string)).result()
  }
  await world.worker()
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const third = await refreshWith(world, 3)
  expect(await world.rollback()).toMatchObject({ from: third, to: second })
  await baked()
  const by = { dataset: world.dataset, by: 'test', reason: 'it was another one' }
  expect(await releaseVersion(world.changeDeps, { ...by, tag: third })).toEqual({ released: true })
  await damage(world, redis, second)
  await restart()
  const forward = await world.rollback({ to: third }).catch((error: unknown) => error)
  expect(failureCode(forward)).toBe('CONFLICT')
  expect(failureMessage(forward)).toMatch(/older than .*snapflip flip/)
  expect((await world.pointer()).active?.tag).toBe(second)

  expect(await world.rollback({ reason: 'prices are off' })).toMatchObject({ from: second, to: first })
  expect(await world.pointer()).toMatchObject({
    active: { tag: first },
    quarantined: [second],
    hold: { reason: 'prices are off' },
  })
  expect((await version(world.pool, world.dataset, second)).state).toBe('quarantined')
  expect(await baked()).toMatchObject({ status: 'BAKED' })
  expect(alertsOf(world)).toEqual(['STORE_REBOUND'])
})

it('what is left of the only version stays readable until a build from the source replaces it', async () => {
  const { world, redis, restart } = await worldOnRedis()
  await world.worker()
  const first = await refreshWith(world, 1)
  await damage(world, redis, first)
  await restart()
  const second = await world.refresh()
  expect(second).toMatchObject({ status: 'FLIPPED' })
  expect(second.summary).toMatch(/300 entries built in full/)
  expect(await world.pointer()).toMatchObject({ active: { tag: second.tag }, previous: null, quarantined: [first] })
  expect(await priceOf(world, 7)).toBe(1)
  expect(await repairsOf(world)).toEqual(['rebound, lost'])
})

it('of two that repair a pointer one does, and the other finds it done', async () => {
  const { world, restart } = await worldOnRedis()
  const deps: Array<Parameters<typeof reconcile>[0]> = []
  await world.worker((plain) => {
    deps.push(plain)
    return plain
  })
  await refreshWith(world, 1)
  await restart()
  const store = await world.store()
  const repair = () =>
    reconcile(deps[0] as (typeof deps)[0], store, {
      dataset: world.dataset,
      rollback: { flipId: randomUUID(), actor: null, reason: null, hold: null, to: null },
      tell: () => undefined,
      signal: AbortSignal.timeout(30_000),
    })
  const outcomes = await Promise.all([repair(), repair()])
  expect(outcomes.map((done) => done?.outcome).sort()).toEqual(['asserted', undefined])
})

/** As a restore from a backup: the database as it was when this was called, in the place of the one that is there when `restored` is. */
async function backUp(world: World): Promise<{ pool: pg.Pool; builder: Deps['builder'] }> {
  const url = new URL(world.config.database as string)
  const original = url.pathname.slice(1)
  const name = `${original}_old`
  const admin = new pg.Client({ connectionString: Object.assign(new URL(url), { pathname: '/postgres' }).href })
  await admin.connect()
  onTestFinished(async () => {
    await admin.query(`drop database ${name} with (force)`)
    await admin.end()
  })
  // A template must have no other connection; the pools open new ones.
  await expect
    .poll(
      async () => {
        await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [original])
        return admin.query(`create database ${name} template ${original}`).then(
          () => 'copied',
          (error: Error) => error.message,
        )
      },
      { timeout: 30_000 },
    )
    .toBe('copied')
  const connectionString = Object.assign(new URL(url), { pathname: `/${name}` }).href
  const pool = new pg.Pool({ connectionString })
  pool.on('error', () => undefined)
  onTestFinished(() => pool.end())
  return { pool, builder: () => connectBuilder(connectionString) }
}

/** A worker whose database can be replaced by another. */
async function workerOnBackup(world: World): Promise<{ restore(copy: Pick<Deps, 'pool' | 'builder'>): void }> {
  let from: Pick<Deps, 'pool' | 'builder'> | null = null
  await world.worker((plain) => ({
    ...plain,
    get pool() {
      return (from ?? plain).pool
    },
    builder: () => (from ?? plain).builder(),
  }))
  return {
    restore(copy) {
      from = copy
    },
  }
}

it('a database restored from before two refreshes goes on from what the store has', async () => {
  const world = await makeWorld(SHOP)
  const worker = await workerOnBackup(world)
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const old = await backUp(world)
  const third = await refreshWith(world, 3)
  const fourth = await refreshWith(world, 4)
  const before = await world.pointer()
  worker.restore(old)

  const fifth = await world.refresh()
  expect(fifth).toMatchObject({ status: 'FLIPPED' })
  expect(fifth.summary).toMatch(/300 entries built in full/)
  expect(await priceOf(world, 7)).toBe(2)
  expect(alertsOf(world)).toEqual(['LINEAGE_BROKEN', 'HISTORY_BROKEN'])
  const after = await world.pointer()
  expect(after.contradicted).toEqual([before.anchor])
  expect(compareEpoch(after.epoch, before.epoch)).toBeGreaterThan(0)
  expect(after).toMatchObject({ active: { tag: fifth.tag }, previous: { tag: fourth } })
  const known = await versions(old.pool, world.dataset)
  expect(known.map(({ tag, state }) => [tag, state])).toEqual([
    [fifth.tag, 'active'],
    [fourth, 'retained'],
    [third, 'retained'],
    [second, 'retained'],
    [first, 'retained'],
  ])
  expect(known.map(({ ordinal }) => ordinal)).toEqual([5, 4, 3, 2, 1])

  // Nothing is adopted twice, and from then on all is as ever.
  await old.pool.query('update products set price = 6 where id <= 20')
  const sixth = await world.refresh()
  expect(sixth.summary).toMatch(/products: \+0 ~20 -0 of 300/)
  expect(await historyEntries(old.pool, { dataset: world.dataset, kind: 'version.adopted' })).toHaveLength(2)
  expect(await world.rollback()).toMatchObject({ from: sixth.tag, to: fifth.tag })
  const epochs = (await flips(old.pool, world.dataset)).map((flip) => flip.epoch)
  expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => b - a))
  await verifyHistory(old.pool)
})

it('a rollback under a restored database goes back to a version that only the store knew', async () => {
  const world = await makeWorld(SHOP)
  const worker = await workerOnBackup(world)
  await refreshWith(world, 1)
  const old = await backUp(world)
  const second = await refreshWith(world, 2)
  const third = await refreshWith(world, 3)
  const before = await world.pointer()
  worker.restore(old)
  expect(await world.rollback({ reason: 'prices are off' })).toMatchObject({ from: third, to: second })
  const after = await world.pointer()
  expect(compareEpoch(after.epoch, before.epoch)).toBeGreaterThan(0)
  expect(after).toMatchObject({ active: { tag: second }, quarantined: [third], hold: { reason: 'prices are off' } })
  expect((await version(old.pool, world.dataset, third)).state).toBe('quarantined')
  await verifyHistory(old.pool)
})

it('what a lost database had taken back stays back: quarantine and hold come from the store', async () => {
  const world = await makeWorld(SHOP)
  const worker = await workerOnBackup(world)
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const old = await backUp(world)
  await world.rollback({ reason: 'prices are off' })
  worker.restore(old)
  await world.refreshFailure()
  expect(await world.pointer()).toMatchObject({ active: { tag: first }, quarantined: [second] })
  expect((await version(old.pool, world.dataset, first)).state).toBe('active')
  expect((await version(old.pool, world.dataset, second)).state).toBe('quarantined')
  expect((await activeHold(old.pool, world.dataset))?.reason).toBe('prices are off')
  await verifyHistory(old.pool)
})

it('another store than the one applied is refused by name, and nothing is lost by it', async () => {
  const folder = await testFolder()
  const world = await makeWorld(SHOP)
  const right = (await world.store()).url
  const wrong = await openStore(`file:${folder.path}`, { dataset: world.dataset })
  onTestFinished(() => wrong.close())
  let store: Store | null = null
  await world.worker((plain) => ({
    ...plain,
    get config() {
      return store === null ? plain.config : { ...plain.config, stores: { main: store.url } }
    },
    store: async (name) => store ?? plain.store(name),
  }))
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const states = async () => (await versions(world.pool, world.dataset)).map((row) => row.state)

  store = wrong
  for (const failure of [await world.refreshFailure(), await world.rollback().catch((error: unknown) => error)]) {
    expect(failureCode(failure)).toBe('NOT_APPLIED')
    expect(failureMessage(failure)).toMatch(new RegExp(`${right}.*${wrong.url}.*apply`))
  }
  expect(await states()).toEqual(['active', 'retained'])
  expect(await repairsOf(world)).toEqual([])

  // Moved by intention: built anew, above every epoch, and nothing is quarantined.
  const move = (url: string, held: boolean) =>
    applyStore(world.pool, { dataset: world.dataset, url, by: null, holds: async () => held })
  expect(await move(wrong.url, false)).toEqual({ movedFrom: right })
  await world.pool.query('update products set price = 3 where id <= 20')
  const third = await world.refresh()
  expect(third.summary).toMatch(/300 entries built in full/)
  const moved = (await wrong.pointer.read())?.pointer
  expect(moved).toMatchObject({ active: { tag: third.tag }, previous: null, quarantined: [], epoch: { registry: 3 } })
  expect(await states()).toEqual(['active', 'swept', 'swept'])
  expect(await repairsOf(world)).toEqual([])

  // And back again: what is there is known again.
  store = null
  expect(await move(right, false)).toEqual({ movedFrom: wrong.url })
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  expect(await priceOf(world, 7)).toBe(3)
  expect((await world.pointer()).previous?.tag).toBe(second)
  expect((await version(world.pool, world.dataset, first)).state).toBe('retained')
  await verifyHistory(world.pool)
})

it('a rollback that died before it repaired the store is finished by its next attempt', async () => {
  const { world, redis, restart } = await worldOnRedis()
  const plan = new FaultPlan()
  await world.worker(around(plan))
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  await damage(world, redis, second)
  await restart()
  plan.fail('pointer.rebind', { kind: 'before' })
  expect(await world.rollback()).toMatchObject({ from: second, to: first })
  expect(plan.left).toBe(0)
  expect(await world.pointer()).toMatchObject({ active: { tag: first }, quarantined: [second] })
  expect((await flips(world.pool, world.dataset)).map((flip) => flip.outcome)).toEqual([
    'confirmed',
    'confirmed',
    'confirmed',
  ])
})

it('a rollback that died between its intent and the flip finds the store restarted, and goes on', async () => {
  const { world, restart } = await worldOnRedis()
  /** As many calls as one attempt makes before it gives up. */
  let deaf: number | null = null
  await world.worker(
    around({
      async run(operation, call) {
        const isIntended = async () => (await flips(world.pool, world.dataset, 1))[0]?.kind === 'rollback'
        if (deaf === null && operation === 'pointer.swap' && (await isIntended())) {
          await restart()
          deaf = 3
        }
        if (!deaf) return call()
        deaf--
        throw new SnapflipError('STORE_UNREACHABLE', 'a fault of the test')
      },
    }),
  )
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  expect(await world.rollback()).toMatchObject({ from: second, to: first })
  expect(deaf).toBe(0)
  expect(await repairsOf(world)).toEqual(['rebound, asserted'])
})

it('a hold and its lifting repair a restarted store first', async () => {
  const { world, restart } = await worldOnRedis()
  await world.worker()
  const first = await refreshWith(world, 1)
  await restart()
  await world.hold('wait for finance')
  expect(await world.pointer()).toMatchObject({ active: { tag: first }, hold: { reason: 'wait for finance' } })
  await restart()
  await world.resume()
  expect((await world.pointer()).hold).toBeNull()
  expect(await repairsOf(world)).toEqual(['rebound, asserted', 'rebound, asserted'])
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
})

it.each([
  ['build', 'writer.finish'],
  ['gates', 'data.readManifest'],
  ['preflip', 'pointer.read'],
  ['flip', 'pointer.swap'],
] as const)(
  'a Redis that restarts with its data during %s (%s) costs the refresh nothing',
  async (activity, operation) => {
    const { world, restart } = await worldOnRedis()
    const fault = onceIn(activity, operation, restart)
    await world.worker(around(fault))
    await refreshWith(world, 1)
    fault.armed = true
    const second = await refreshWith(world, 2)
    expect(fault.armed).toBe(false)
    expect(await world.pointer()).toMatchObject({ active: { tag: second } })
    expect(await priceOf(world, 7)).toBe(2)
    expect(await repairsOf(world)).toEqual(['rebound, asserted'])
    expect((await flips(world.pool, world.dataset)).map((flip) => flip.outcome)).toEqual(['confirmed', 'confirmed'])
    await verifyHistory(world.pool)
  },
)

it('a Redis that restarts while a refresh finds nothing new costs it nothing', async () => {
  const { world, restart } = await worldOnRedis()
  const fault = onceIn('build', 'pointer.swap', restart)
  await world.worker(around(fault))
  const first = await refreshWith(world, 1)
  fault.armed = true
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW', active: first })
  expect(fault.armed).toBe(false)
  expect(await repairsOf(world)).toEqual(['rebound, asserted'])
})

it.each([
  ['flip', {}],
  ['beginCanary', { canary: { share: 0.5, forMs: 1_000 } }],
  ['watchCanary', { canary: { share: 0.5, forMs: 1_000, ramp: [0.6] } }],
] satisfies [string, Partial<WorldOptions['dataset']>][])(
  'a version of which a restart lost a block after its gates is not flipped to (%s)',
  async (activity, more) => {
    const { world, redis, restart } = await worldOnRedis(more)
    const fault = onceIn(activity, 'pointer.swap', async () => {
      const [candidate] = await versions(world.pool, world.dataset)
      await damage(world, redis, candidate?.tag as string)
      await restart()
    })
    await world.worker(around(fault))
    const first = await refreshWith(world, 1)
    await world.pool.query('update products set price = 2 where id <= 20')
    fault.armed = true
    expect(failureCode(await world.refreshFailure())).toBe('PREFLIP_REFUSED')
    expect(await world.pointer()).toMatchObject({ active: { tag: first }, candidate: null })
    const outcomes = (await flips(world.pool, world.dataset)).map((flip) => flip.outcome)
    expect(outcomes).toEqual(activity === 'flip' ? ['refused', 'confirmed'] : ['confirmed'])
    expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  },
)

it('a Redis that restarts over and over ends the refresh with the flip ruled out', async () => {
  const { world, restart } = await worldOnRedis()
  const over = { armed: false, met: 0 }
  await world.worker(
    around({
      async run(operation, call) {
        if (over.armed && operation === 'pointer.swap' && Context.current().info.activityType === 'flip') {
          over.met++
          await restart()
        }
        return call()
      },
    }),
  )
  const first = await refreshWith(world, 1)
  await world.pool.query('update products set price = 2 where id <= 20')
  over.armed = true
  expect(failureCode(await world.refreshFailure())).toBe('STORE_REBOUND')
  expect(over.met).toBe(3)
  expect((await world.pointer()).active?.tag).toBe(first)
  expect((await flips(world.pool, world.dataset)).map((flip) => flip.outcome)).toEqual(['refused', 'confirmed'])
  over.armed = false
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  await verifyHistory(world.pool)
})

it('a Redis that restarts right before the rollback is made is repaired within it', async () => {
  const { world, restart } = await worldOnRedis()
  const fault = onceIn('flipBack', 'pointer.swap', restart)
  await world.worker(around(fault))
  const first = await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  fault.armed = true
  expect(await world.rollback()).toMatchObject({ from: second, to: first })
  expect(fault.armed).toBe(false)
  expect(await world.pointer()).toMatchObject({ active: { tag: first }, quarantined: [second] })
  expect((await flips(world.pool, world.dataset))[0]).toMatchObject({ kind: 'rollback', outcome: 'confirmed' })
})

/** Asks the registry for a flip from what the pointer names to this version; who makes it in the store may come late. */
async function intended(world: World, to: VersionRef): Promise<FlipChange> {
  const flipId = randomUUID()
  const pointer = await world.pointer()
  const from = pointer.active?.tag as string
  const intent = {
    flipId,
    dataset: world.dataset,
    kind: 'rollback',
    from,
    to: to.tag,
    reason: 'late',
    actor: null,
  } as const
  const { epoch } = await intendFlip(world.pool, intent)
  const expected = { tag: from, epoch: pointer.epoch }
  return { kind: 'flip', flipId, expected, to, epoch, freshAsOf: null, allowHold: true }
}

it('a flip that is recorded as refused stays out, also where a failover undid the fence and a repair came after', async () => {
  const { world, redis, restart } = await worldOnRedis()
  const { dataset, pool } = world
  await world.worker()
  await refreshWith(world, 1)
  const to = (await world.pointer()).active as VersionRef
  const second = await refreshWith(world, 2)
  const unfenced = await world.pointer()
  const late = await intended(world, to)
  const store = await world.store()
  await changePointer(store.pointer, { kind: 'fence', epoch: late.epoch }, { dataset })
  await settleFlip(pool, { flipId: late.flipId, outcome: 'refused', detail: {} })
  await setBack(world, redis, unfenced)
  await restart()

  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW', active: second })
  await expect(changePointer(store.pointer, late, { dataset })).rejects.toMatchObject({ code: 'SUPERSEDED' })
  expect((await world.pointer()).active?.tag).toBe(second)
  // And the next flip is above it.
  await refreshWith(world, 3)
})

it('a flip that came late to a pointer set back is recorded before a repair may undo it', async () => {
  const { world, redis, restart } = await worldOnRedis()
  await world.worker()
  await refreshWith(world, 1)
  const to = (await world.pointer()).active as VersionRef
  await refreshWith(world, 2)
  const older = await world.pointer()
  await refreshWith(world, 3)
  await setBack(world, redis, older)
  const late = await intended(world, to)
  await changePointer((await world.store()).pointer, late, { dataset: world.dataset })
  await restart()

  await world.hold('wait for finance')
  expect((await flips(world.pool, world.dataset))[0]).toMatchObject({ flipId: late.flipId, outcome: 'confirmed' })
  expect(await world.pointer()).toMatchObject({ active: to, flipId: late.flipId })
  expect((await knownPointer(world.pool, world.dataset))?.active).toEqual(to)
})

it('a flip that dies after it found its version damaged does not make it in its next attempt', async () => {
  const { world, redis, restart } = await worldOnRedis()
  const lost = onceIn('flip', 'pointer.swap', async () => {
    const [candidate] = await versions(world.pool, world.dataset)
    await damage(world, redis, candidate?.tag as string)
    await restart()
  })
  let dies = 1
  await world.worker(
    around({
      async run(operation, call) {
        const done = await lost.run(operation, call)
        if (operation === 'pointer.rebind' && Context.current().info.activityType === 'flip' && dies-- > 0)
          throw new SnapflipError('POSTGRES_UNREACHABLE', 'a fault of the test')
        return done
      },
    }),
  )
  const first = await refreshWith(world, 1)
  await world.pool.query('update products set price = 2 where id <= 20')
  lost.armed = true
  expect(failureCode(await world.refreshFailure())).toBe('PREFLIP_REFUSED')
  expect((await world.pointer()).active?.tag).toBe(first)
  expect((await flips(world.pool, world.dataset)).map((flip) => flip.outcome)).toEqual(['refused', 'confirmed'])
})

it.each(['retire', 'forget'] as const)(
  'a Redis that restarts before the pointer is told to %s a version costs the refresh nothing',
  async (kind) => {
    const { world, restart } = await worldOnRedis({ keep: 2 })
    const restarts = { armed: false, isMarked: kind === 'retire' }
    await world.worker(
      around({
        async run(operation, call) {
          const isRetiring = restarts.armed && Context.current().info.activityType === 'retire'
          if (isRetiring && operation === 'data.deleteManifest') restarts.isMarked = true
          if (isRetiring && operation === 'pointer.swap' && restarts.isMarked) {
            restarts.armed = false
            await restart()
          }
          return call()
        },
      }),
    )
    const first = await refreshWith(world, 1)
    await refreshWith(world, 2)
    restarts.armed = true
    const third = await refreshWith(world, 3)
    expect(restarts.armed).toBe(false)
    expect(await repairsOf(world)).toEqual(['rebound, asserted'])
    expect((await version(world.pool, world.dataset, first)).state).toBe('swept')
    expect(await world.pointer()).toMatchObject({ active: { tag: third }, retired: [] })
    expect(alertsOf(world)).toEqual(['STORE_REBOUND'])
  },
)
