import { randomUUID } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { MockActivityEnvironment } from '@temporalio/testing'
import type pg from 'pg'
import { expect, it } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { makeFlip } from '../../activities/flip.ts'
import { flipBack } from '../../activities/flip-back.ts'
import { settle } from '../../activities/settle.ts'
import { settleOpenFlips } from '../../activities/settle-flips.ts'
import type { VersionRef } from '../../schemas/pointer.ts'
import { activeHold } from '../../src/registry/active-hold.ts'
import { flipOf } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { refOf } from '../../src/registry/known-pointer.ts'
import { release } from '../../src/registry/release.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { version } from '../../src/registry/version.ts'
import { versions } from '../../src/registry/versions.ts'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { faultyStore, type StoreOperation } from '../stores/faults.ts'
import { makeWorld, type World } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n * 10 from generate_series(1, 50) n`,
  dataset: { keep: 10, indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

type Asked = StoreOperation | 'connect' | 'query'

/** Transactions of the registry (all that changes it is one), and changes of the pointer. */
const isWrite = (asked: Asked) => ['connect', 'pointer.swap', 'pointer.rebind'].includes(asked)

/** An attempt at the rollback, stopped before the nth of what it asks of registry and store. */
class Attempt {
  /** Resolves when it has come to where it is stopped, or has ended. */
  readonly stopped: Promise<void>
  readonly #ended: Promise<unknown>
  #asked = 0
  readonly #resume: () => void

  constructor(deps: Deps, request: object, flipId: string, stopAt: number, counts: (asked: Asked) => boolean) {
    const resumed = Promise.withResolvers<void>()
    const stopped = Promise.withResolvers<void>()
    const step = async (asked: Asked) => {
      if (!counts(asked) || this.#asked++ !== stopAt) return
      stopped.resolve()
      await resumed.promise
    }
    const pool = new Proxy(deps.pool, {
      get(target, name) {
        const member = Reflect.get(target, name, target) as unknown
        if (typeof member !== 'function') return member
        if (name !== 'connect' && name !== 'query') return member.bind(target)
        return async (...args: unknown[]) => {
          await step(name)
          return member.apply(target, args)
        }
      },
    }) as pg.Pool
    const between = {
      run: async (operation: StoreOperation, call: () => Promise<unknown>) => {
        await step(operation)
        return call()
      },
    }
    const store: Deps['store'] = async (dataset) => faultyStore(await deps.store(dataset), between)
    const asked = { flipId, request, workflowId: 'a test', runId: 'a test' }
    this.#ended = new MockActivityEnvironment().run(flipBack({ ...deps, pool, store }), asked).then(
      (result) => result,
      (error: unknown) => error,
    )
    this.stopped = Promise.race([stopped.promise, this.#ended.then(() => undefined)])
    this.#resume = resumed.resolve
  }

  /** Lets it go on to its end; what it returned, or threw. */
  resume(): Promise<unknown> {
    this.#resume()
    return this.#ended
  }

  /** How much it asked for. */
  get asked(): number {
    return this.#asked
  }
}

/** Two versions, either of which may be gone back to. */
async function makeShop(): Promise<{ world: World; deps: Deps; tags: [string, string] }> {
  const world = await makeWorld(SHOP)
  const found: Deps[] = []
  await world.worker((plain) => {
    found.push(plain)
    return plain
  })
  const first = await world.refresh()
  const second = await world.refresh({ full: true })
  const [deps] = found
  if (deps === undefined) throw new Error('the worker made no deps')
  return {
    world,
    deps: { ...deps, starter: async () => ({ identity: 'a test', parents: [], schedule: null }) },
    tags: [first.tag as string, second.tag as string],
  }
}

/** Pointer, registry and history tell the same. */
async function expectAgreed({ world, deps }: { world: World; deps: Deps }, flipId: string, when: string) {
  const { dataset, pool } = world
  const store = await world.store()
  await settleOpenFlips(deps, store, dataset)
  const pointer = await world.pointer()
  const rows = await versions(pool, dataset)
  const made = pointer.flips.some((flip) => flip.flipId === flipId)
  expect(
    {
      active: rows.filter((row) => row.state === 'active').map((row) => row.tag),
      quarantined: rows.filter((row) => row.state === 'quarantined').map((row) => row.tag),
      hold: await activeHold(pool, dataset),
      outcome: (await flipOf(pool, flipId))?.outcome,
    },
    when,
  ).toEqual({
    active: [pointer.active?.tag],
    quarantined: pointer.quarantined,
    hold: pointer.hold,
    outcome: made ? 'confirmed' : 'refused',
  })
  const settled = (await historyEntries(pool, { dataset, limit: 50 })).filter(
    ({ kind, detail }) => /^rollback\.(confirmed|refused)$/.test(kind) && detail.flipId === flipId,
  )
  expect(settled, when).toHaveLength(1)
}

/** The dataset as before: forward again to the newer of its two versions, which was left. */
async function makeAsBefore({ world, deps }: { world: World; deps: Deps }, left: string): Promise<void> {
  const { dataset, pool } = world
  const store = await world.store()
  await world.resume()
  await release(pool, { dataset, tag: left, by: 'test', reason: 'a test' })
  await changePointer(store.pointer, { kind: 'release', tag: left }, { dataset })
  const { active, epoch, freshAsOf } = await world.pointer()
  const from = active?.tag as string
  const to = refOf(await version(pool, dataset, left)) as VersionRef
  const intent = { flipId: randomUUID(), dataset, kind: 'flip', from, to: left, reason: null, actor: 'test' } as const
  await makeFlip(deps, store, { intent, change: { expected: { tag: from, epoch }, to, freshAsOf } })
}

/** Once for each place at which the first attempt may be stopped: `play` is called with a way to start attempts at a new rollback. */
async function eachStop(
  shop: { world: World; deps: Deps; tags: [string, string] },
  prepare: (from: string) => Promise<() => Promise<void>>,
  play: (start: (stopAt?: number) => Attempt, stopAt: number, flipId: string) => Promise<boolean>,
  counts: (asked: Asked) => boolean = () => true,
): Promise<void> {
  for (let stopAt = 0, goesOn = true; goesOn; stopAt++) {
    const from = (await shop.world.pointer()).active?.tag as string
    const to = shop.tags.find((tag) => tag !== from)
    const mend = await prepare(from)
    const flipId = randomUUID()
    const request = { dataset: shop.world.dataset, reason: 'a test', to }
    goesOn = await play((at = -1) => new Attempt(shop.deps, request, flipId, at, counts), stopAt, flipId)
    await expectAgreed(shop, flipId, `stopped at ${stopAt}`)
    expect((await shop.world.pointer()).active?.tag).toBe(to)
    await mend()
    await makeAsBefore(shop, from)
  }
  await verifyHistory(shop.world.pool)
}

const nothingToPrepare = async () => async () => undefined

/** The store has lost the last flip and a block of the version that this had made active: the rollback is in the repair. */
const losing =
  ({ world }: { world: World }) =>
  async (from: string) => {
    const store = await world.store()
    const read = await store.pointer.read()
    if (read === null) throw new Error('no pointer')
    const { pointer, token } = read
    const epoch = { registry: pointer.epoch.registry - 1, breakGlass: 0 }
    await store.pointer.swap(token, { ...pointer, epoch, flips: pointer.flips.slice(1) })
    const { generation } = decodeManifest((await store.data.readManifest(from)) as Uint8Array, {
      dataset: world.dataset,
      tag: from,
    })
    const path = join(store.url.slice('file:'.length), world.dataset, 'packs', generation, '0')
    const write = async (bytes: Buffer) => {
      const file = await open(path, 'r+')
      const before = Buffer.alloc(bytes.length)
      await file.read(before, 0, bytes.length, 8)
      await file.write(bytes, 0, bytes.length, 8)
      await file.close()
      return before
    }
    const whole = await write(Buffer.from('damaged!'))
    return async () => void (await write(whole))
  }

it.each(['a flip', 'a repair of the store'])(
  'a rollback (%s) stopped anywhere and gone on with after its successor has made it changes nothing more',
  async (kind) => {
    const shop = await makeShop()
    await eachStop(shop, kind === 'a flip' ? nothingToPrepare : losing(shop), async (start, stopAt) => {
      const paused = start(stopAt)
      await paused.stopped
      const successor = start()
      expect(await successor.resume()).toMatchObject({ dataset: shop.world.dataset })
      const before = await shop.world.pointer()
      await paused.resume()
      expect(await shop.world.pointer()).toEqual(before)
      return paused.asked > stopAt
    })
  },
  120_000,
)

it.each(['a flip', 'a repair of the store'])(
  'a rollback (%s) stopped before any write, and its successor before any other: whichever goes on, all agree',
  async (kind) => {
    const shop = await makeShop()
    const prepare = kind === 'a flip' ? nothingToPrepare : losing(shop)
    for (let secondAt = 0, furthest = 1; secondAt < furthest; secondAt++) {
      const play: Parameters<typeof eachStop>[2] = async (start, stopAt) => {
        const first = start(stopAt)
        await first.stopped
        const second = start(secondAt)
        await second.stopped
        await first.resume()
        // The workflow hears the successor alone: it finds what the other has made.
        const { dataset } = shop.world
        expect(await second.resume(), `${stopAt}, ${secondAt}`).toMatchObject({ dataset })
        furthest = Math.max(furthest, second.asked)
        return first.asked > stopAt
      }
      await eachStop(shop, prepare, play, isWrite)
    }
  },
  300_000,
)

it('a rollback that was refused stays so, though what stood against it is gone when a paused attempt goes on', async () => {
  const { world, deps, tags } = await makeShop()
  const { dataset } = world
  const flipId = randomUUID()
  const request = { dataset, reason: 'a test', to: tags[0] }
  const paused = new Attempt(deps, request, flipId, 0, (asked) => asked === 'pointer.swap')
  await paused.stopped
  const store = await world.store()
  // In the store alone, as by somebody who could not reach the registry.
  await changePointer(store.pointer, { kind: 'quarantine', tag: tags[0] }, { dataset })
  const successor = new Attempt(deps, request, flipId, -1, () => true)
  expect(await successor.resume()).toMatchObject({ type: 'VERSION_QUARANTINED' })
  await changePointer(store.pointer, { kind: 'release', tag: tags[0] }, { dataset })

  expect(await paused.resume()).toBeInstanceOf(Error)
  expect((await world.pointer()).active?.tag).toBe(tags[1])
  expect((await flipOf(world.pool, flipId))?.outcome).toBe('refused')
  await verifyHistory(world.pool)
})

it('a rollback stopped before its intent, told as failed and woken later changes nothing', async () => {
  const { world, deps, tags } = await makeShop()
  const { dataset } = world
  const paused: Array<{ attempt: Attempt; flipId: string }> = []
  for (let stopAt = 0, isIntended = false; !isIntended; stopAt++) {
    const flipId = randomUUID()
    const attempt = new Attempt(deps, { dataset, reason: 'a test' }, flipId, stopAt, () => true)
    await attempt.stopped
    isIntended = (await flipOf(world.pool, flipId)) !== null
    const told = await new MockActivityEnvironment().run(settle(deps), { dataset, flipId })
    expect(told).toMatchObject({ flipped: false })
    paused.push({ attempt, flipId })
  }
  expect(paused.length).toBeGreaterThan(3)
  const good = await world.refresh({ full: true })
  const pointer = await world.pointer()
  expect(pointer).toMatchObject({ active: { tag: good.tag }, previous: { tag: tags[1] }, hold: null, quarantined: [] })

  for (const { attempt, flipId } of paused) {
    expect(await attempt.resume()).toBeInstanceOf(Error)
    expect(await world.pointer()).toEqual(pointer)
    expect((await flipOf(world.pool, flipId))?.outcome ?? 'refused').toBe('refused')
  }
  expect(await activeHold(world.pool, dataset)).toBeNull()
  await verifyHistory(world.pool)
})

it('a rollback stopped anywhere, with another one made since, changes nothing when it goes on', async () => {
  const shop = await makeShop()
  const { world, deps, tags } = shop
  await eachStop(shop, nothingToPrepare, async (start, stopAt, flipId) => {
    const paused = start(stopAt)
    await paused.stopped
    await start().resume()
    const now = (await world.pointer()).active?.tag as string
    const before = tags.find((tag) => tag !== now) as string
    // There and back by others.
    await makeAsBefore(shop, before)
    const request = { dataset: world.dataset, reason: 'another', to: now }
    expect(await new Attempt(deps, request, randomUUID(), -1, () => true).resume()).toMatchObject({ to: now })
    const pointer = await world.pointer()
    await paused.resume()
    expect(await world.pointer(), `stopped at ${stopAt}`).toEqual(pointer)
    expect((await flipOf(world.pool, flipId))?.outcome).toBe('confirmed')
    return paused.asked > stopAt
  })
}, 120_000)
