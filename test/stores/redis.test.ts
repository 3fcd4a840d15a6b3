import { inspect } from 'node:util'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Location } from '../../schemas/manifest.ts'
import { COUNTERS_KEPT_MS } from '../../src/core/counters.ts'
import type { emptyPointer } from '../../src/core/pointer.ts'
import { type LocalRedis, type StartRedisOptions, startRedis } from '../../src/local/redis.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { type OpenOptions, openStore } from '../../src/stores/open.ts'
import type { Store } from '../../src/stores/ports.ts'
import { LEASE_TTL_MAX_MS } from '../../src/stores/unreadable-lease.ts'
import { redisModes, type TestFolder, type TestRedis, testFolder, testRedisIn } from '../support/services.ts'
import { storeContract } from './contract.ts'
import { startRedisProxy } from './redis-proxy.ts'
import { report } from './reports.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'
import { flipFrom, newGeneration, tagOf, version } from './versions.ts'

describe.each(redisModes)('Redis store, %s', (mode) => {
  let redis: TestRedis
  beforeAll(async () => {
    redis = await testRedisIn(mode)
  })
  storeContract((dataset) => openStore(`${redis.url}?prefix=${redis.prefix}`, { dataset }))
})

describe('Redis store', () => {
  const stops: Array<() => Promise<unknown>> = []
  afterEach(async () => {
    for (const stop of stops.splice(0).reverse()) await stop()
  })
  const start = async (options: StartRedisOptions): Promise<LocalRedis> => {
    const redis = await startRedis(options)
    stops.push(() => redis.stop())
    return redis
  }
  const open = async (url: string, options: Partial<OpenOptions> = {}): Promise<Store> => {
    const store = await openStore(url, { dataset: 'shop', ...options })
    stops.push(() => store.close())
    return store
  }
  const admin = (url: string): Redis => {
    const redis = new Redis(url)
    stops.push(async () => redis.disconnect())
    return redis
  }

  it('refuses a Redis that evicts', async () => {
    const redis = await start({ maxmemoryPolicy: 'allkeys-lru' })
    const store = await open(redis.url)
    await expect(store.check()).rejects.toMatchObject({
      code: 'STORE_UNSUITABLE',
      message: expect.stringMatching(/has maxmemory-policy allkeys-lru, expected noeviction/),
    })
  })

  it('refuses a cluster of several nodes, and one that misses slots', async () => {
    const [first, second] = [await start({ cluster: true }), await start({ settings: { 'cluster-enabled': 'yes' } })]
    const store = await open(first.url)
    await store.check()
    const [one, two] = [admin(first.url), admin(second.url)]
    await one.call('cluster', 'delslots', '0')
    const refusal = (found: RegExp) => ({ code: 'STORE_UNSUITABLE', message: expect.stringMatching(found) })
    await vi.waitFor(
      () => expect(store.check()).rejects.toMatchObject(refusal(/cluster of size 1 in state fail/)),
      10_000,
    )
    await one.call('cluster', 'meet', '127.0.0.1', String(second.port))
    await two.call('cluster', 'addslots', '0')
    await vi.waitFor(
      () =>
        expect(store.check()).rejects.toMatchObject(
          refusal(/cluster of size 2 .* expected one node that holds all slots/),
        ),
      30_000,
    )
  })

  it('that is full says so; what is there stays, flips and leases go on, and sweeping makes room', async () => {
    const redis = await start({ settings: { maxmemory: '12mb' } })
    const store = await open(redis.url)
    const kept = await put(store, [Buffer.from('kept')])
    await changePointer(store.pointer, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
    expect(await store.freeBytes()).toBeLessThan(12 << 20)

    const writer = await store.data.begin(newGeneration())
    const fill = async () => {
      for (let n = 0; n < 300; n++) await writer.put([Buffer.alloc(100 << 10, n)])
      await writer.finish()
    }
    await expect(fill()).rejects.toMatchObject({ code: 'STORE_FULL', message: expect.stringContaining('maxmemory') })
    await expect(store.data.putManifest(tagOf(2), Buffer.alloc(100 << 10))).rejects.toMatchObject({
      code: 'STORE_FULL',
    })

    // What was refused left a little room; now there is certainly none.
    const operator = admin(redis.url)
    await operator.config('SET', 'maxmemory', '1mb')
    await expect(store.check()).rejects.toMatchObject({ code: 'STORE_FULL' })
    expect(await store.freeBytes()).toBe(0)
    expect(await store.data.read(kept)).toEqual([Buffer.from('kept')])
    const now = await store.pointer.read()
    await changePointer(store.pointer, flipFrom(now?.pointer ?? null, 2, 'flip-2'), { dataset: 'shop' })
    await store.leases.put({ id: 'reader', tag: tagOf(2), kind: 'reader', ttlMs: 60_000 })
    expect(await store.leases.list()).toHaveLength(1)

    await operator.config('SET', 'maxmemory', '12mb')
    await store.data.deleteGeneration(writer.generation)
    await store.check()
    await put(store, [Buffer.alloc(1 << 20)])
  })

  it('keeps what readers counted for as long as it says, from the last report on, and nothing of it when it is full', async () => {
    const redis = await start({ settings: { maxmemory: '12mb' } })
    const store = await open(redis.url)
    await store.counters.put(report({}))
    const operator = admin(redis.url)
    await operator.pexpire('{sf:shop}:n:flip-1', 5000)
    await store.counters.put(report({ side: 'candidate' }))
    expect(await operator.pttl('{sf:shop}:n:flip-1')).toBeGreaterThan(COUNTERS_KEPT_MS - 60_000)
    await operator.config('SET', 'maxmemory', '1mb')
    await expect(store.counters.put(report({ reads: 2 }))).rejects.toMatchObject({ code: 'STORE_FULL' })
  })

  it('after a restart refuses writes of the pointer until it is bound anew, and only one reconciler binds it', async () => {
    const folder: TestFolder = await testFolder()
    const first = await start({ dataDir: folder.path })
    const store = await open(first.url)
    const rival = await open(first.url)
    await changePointer(store.pointer, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
    await first.crash()
    await start({ dataDir: folder.path, port: first.port })
    await vi.waitFor(async () => expect((await store.pointer.read())?.pointer.flipId).toBe('flip-1'), {
      timeout: 10_000,
    })
    await vi.waitFor(() => rival.pointer.read(), { timeout: 10_000 })

    const { pointer } = (await store.pointer.read()) as { pointer: ReturnType<typeof emptyPointer> }
    const flip = flipFrom(pointer, 2, 'flip-2')
    await expect(changePointer(store.pointer, flip, { dataset: 'shop' })).rejects.toMatchObject({
      code: 'STORE_REBOUND',
    })
    expect((await store.pointer.read())?.pointer).toEqual(pointer)

    expect(await store.pointer.isBound()).toBe(false)
    const token = ((await store.pointer.read()) as { token: string }).token
    expect(await store.pointer.rebind('another revision', pointer)).toBe(false)
    expect(await store.pointer.rebind(token, pointer)).toBe(true)
    expect(await store.pointer.isBound()).toBe(true)
    await changePointer(store.pointer, flip, { dataset: 'shop' })
    const now = ((await rival.pointer.read()) as { token: string }).token
    for (const seen of [token, now]) expect(await rival.pointer.rebind(seen, pointer)).toBe(false)
    expect((await rival.pointer.read())?.pointer.active).toEqual(version(2))
  })

  it('after failover and failback to the same process refuses writes of the pointer too', async () => {
    const [primary, other] = [await start({}), await start({})]
    const store = await open(primary.url)
    await changePointer(store.pointer, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
    const operator = admin(primary.url)
    await operator.replicaof('127.0.0.1', other.port)
    await operator.replicaof('NO', 'ONE')
    await expect(
      changePointer(store.pointer, { kind: 'release', tag: tagOf(9) }, { dataset: 'shop' }),
    ).resolves.toMatchObject({
      outcome: 'already',
    })
    const change = changePointer(store.pointer, { kind: 'quarantine', tag: tagOf(9) }, { dataset: 'shop' })
    await expect(change).rejects.toMatchObject({ code: 'STORE_REBOUND' })
  })

  it.each(['i', 'm'])('refuses writes of the pointer when its binding differs in %s alone', async (field) => {
    const redis = await start({})
    const store = await open(redis.url)
    await changePointer(store.pointer, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
    await admin(redis.url).hset('{sf:shop}:p', field, '0'.repeat(40))
    const change = changePointer(store.pointer, { kind: 'quarantine', tag: tagOf(9) }, { dataset: 'shop' })
    await expect(change).rejects.toMatchObject({ code: 'STORE_REBOUND' })
  })

  it('waits for replicas when told to, and reads no flip as made that they do not have', async () => {
    const primary = await start({ settings: { 'repl-diskless-sync-delay': '0' } })
    const store = await open(`${primary.url}?waitReplicas=1&commandTimeoutMs=1000`)
    await expect(store.check()).rejects.toMatchObject({ code: 'STORE_UNSUITABLE' })
    const flip = flipFrom(null, 1, 'flip-1')
    await expect(changePointer(store.pointer, flip, { dataset: 'shop' })).rejects.toMatchObject({
      code: 'STORE_UNREACHABLE',
    })

    const replica = await start({})
    await admin(replica.url).replicaof('127.0.0.1', primary.port)
    await vi.waitFor(() => store.check(), { timeout: 20_000, interval: 200 })
    await vi.waitFor(
      async () =>
        expect(await changePointer(store.pointer, flip, { dataset: 'shop' })).toMatchObject({ outcome: 'already' }),
      { timeout: 20_000 },
    )
    const locations = await put(store, [Buffer.from('replicated')])
    expect(await (await open(replica.url)).data.read(locations)).toEqual([Buffer.from('replicated')])
    await expect((await open(replica.url)).check()).rejects.toMatchObject({ code: 'STORE_UNSUITABLE' })
  })

  it('reads one block with one GET and nothing else', async () => {
    const redis = await start({})
    const store = await open(redis.url)
    const locations = await put(store, [Buffer.from('block')])
    const operator = admin(redis.url)
    await operator.config('RESETSTAT')
    await store.data.read(locations)
    const stats = await operator.info('commandstats')
    const called = [...stats.matchAll(/cmdstat_(\w+)[|:].*?calls=(\d+)/g)].map(([, name, calls]) => `${name} ${calls}`)
    expect(called.filter((call) => !/^(config|info|client|hello)/.test(call))).toEqual(['get 1'])
  })

  it('takes what is no lease for one of any version, for as long as a lease may last from when it was seen', async () => {
    const redis = await start({})
    const store = await open(redis.url)
    const operator = admin(redis.url)
    await operator.hset('{sf:shop}:l', 'strange', 'what is this')
    const from = Date.now()
    for (let n = 0; n < 2; n++) {
      const [lease, ...others] = await store.leases.list()
      expect(lease).toMatchObject({ id: 'strange', tag: null })
      expect(others).toEqual([])
      expect(Math.abs((lease?.expiresAt.getTime() ?? 0) - from - LEASE_TTL_MAX_MS)).toBeLessThan(60_000)
    }
    await operator.hset('{sf:shop}:l', 'strange', '1 ? reader')
    expect(await store.leases.list()).toEqual([])
    expect(await operator.hlen('{sf:shop}:l')).toBe(0)
  })

  it('leaves no key behind when everything is deleted', async () => {
    const redis = await start({})
    const store = await open(redis.url)
    const locations = await put(
      store,
      Array.from({ length: 5000 }, () => Buffer.from('block')),
    )
    await store.data.putManifest(tagOf(1), Buffer.from('manifest'))
    await store.leases.put({ id: 'reader', tag: tagOf(1), kind: 'reader', ttlMs: 60_000 })
    await store.leases.drop('reader')
    await store.data.deleteManifest(tagOf(1))
    await store.data.deleteGeneration((locations[0] as Location).generation)
    expect(await admin(redis.url).keys('*')).toEqual([])
  })

  it('leaves no key behind of a writer that was swept at any of its commands and killed at any later one', async () => {
    const redis = await start({})
    const sweeper = await open(redis.url)
    const operator = admin(redis.url)
    const runs: string[] = []
    for (let sweptAt = 0, isOver = false; !isOver; sweptAt++) {
      for (let killedAt = sweptAt; ; killedAt++) {
        const generation = newGeneration()
        let command = -1
        let [name, times] = ['', 0]
        const proxy = await startRedisProxy(redis.port, async (next) => {
          times = next === name ? times + 1 : 1
          name = next
          // Of a row of the same command the first two stand for all.
          if (times > 2 || ++command < sweptAt) return 'pass'
          if (command === sweptAt) await sweeper.data.deleteGeneration(generation)
          return command === killedAt ? 'cut' : 'pass'
        })
        const killed = await openStore(`redis://127.0.0.1:${proxy.port}`, { dataset: 'shop' })
        const write = async () => {
          const writer = await killed.data.begin(generation)
          await writer.put([Buffer.from('one'), Buffer.from('two')])
          // More than is left of the numbers it has.
          await writer.put(Array.from({ length: 4095 }, () => Buffer.from('block')))
          await writer.finish()
        }
        const outcome = await write().catch((error) => error.code)
        expect(outcome).toBeOneOf(['CONFLICT', 'STORE_UNREACHABLE', undefined])
        await killed.close()
        await proxy.stop()
        const sweep = async () => {
          for (const begun of await sweeper.data.generations()) await sweeper.data.deleteGeneration(begun.generation)
        }
        await sweep()
        // As it is found after longer than any build takes.
        for (const [name, entry] of Object.entries(await operator.hgetall('{sf:shop}:j'))) {
          const [upto, , ...state] = entry.split(' ')
          await operator.hset(
            '{sf:shop}:j',
            name,
            [upto, 1, ...state.map((word) => (/^\d+$/.test(word) ? 1 : word))].join(' '),
          )
        }
        await sweep()
        runs.push(`${sweptAt} ${killedAt} ${await operator.dbsize()}`)
        isOver = command < sweptAt
        if (command < killedAt) break
      }
    }
    expect(runs.filter((run) => !run.endsWith(' 0'))).toEqual([])
    expect(runs.length).toBeGreaterThan(30)
  })

  it('keeps a password out of its URL and its errors', async () => {
    const redis = await start({})
    // Set afterwards: the local server is asked without a password whether it is up.
    const operator = admin(redis.url)
    await operator.config('SET', 'requirepass', 'right')
    const of = (password: string) => redis.url.replace('redis://', `redis://default:${password}@`)
    const right = await open(of('right'))
    await right.check()
    expect(right.url).not.toContain('right')
    const wrong = await open(of('sesame'))
    const error = await wrong.pointer.read().catch((caught: unknown) => caught)
    expect(error).toMatchObject({ code: 'STORE_UNSUITABLE' })
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('sesame')
    await expect(openStore('redis://user:sesame@:bad', { dataset: 'shop' })).rejects.toSatisfy(
      (caught) => !inspect(caught, { depth: 9 }).includes('sesame'),
    )
    // As it was, so that it can be stopped as it was started.
    await operator.config('SET', 'requirepass', '')
  })

  describe('behind a network', () => {
    let redis: LocalRedis
    let proxy: TcpProxy
    beforeAll(async () => {
      redis = await startRedis({})
      proxy = await startTcpProxy(redis.port)
    })
    afterAll(async () => {
      await proxy.stop()
      await redis.stop()
    })

    it('that loses the reply to a flip finds it made', async () => {
      const store = await open(`redis://127.0.0.1:${proxy.port}?prefix=lost`)
      await store.pointer.read()
      const lossy = {
        ...store.pointer,
        read: () => store.pointer.read(),
        watch: () => undefined,
        isBound: () => store.pointer.isBound(),
        rebind: async () => false,
      }
      const swap = vi.fn(async (token: string | null, next: ReturnType<typeof emptyPointer>) => {
        proxy.mode = 'lose-reply'
        return store.pointer.swap(token, next)
      })
      const flipped = await changePointer({ ...lossy, swap }, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
      expect([flipped.outcome, flipped.pointer.flipId]).toEqual(['already', 'flip-1'])
      expect(swap).toHaveBeenCalledTimes(1)
    })

    it('that breaks during a build fails the build, and the next attempt works', async () => {
      const store = await open(`redis://127.0.0.1:${proxy.port}?prefix=broken`)
      const writer = await store.data.begin(newGeneration())
      await writer.put([Buffer.from('first')])
      proxy.mode = 'lose-reply'
      const build = async () => {
        await writer.put([Buffer.from('second')])
        await writer.finish()
      }
      await expect(build()).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
      await vi.waitFor(async () => expect(await put(store, [Buffer.from('again')])).toHaveLength(1))
    })

    it('that goes silent lets no call wait for longer than its time-outs', async () => {
      const store = await open(`redis://127.0.0.1:${proxy.port}?prefix=silent`, {
        commandTimeoutMs: 200,
        connectTimeoutMs: 200,
      })
      const locations = await put(store, [Buffer.from('block')])
      proxy.mode = 'silent'
      for (const call of [() => store.data.read(locations), () => store.pointer.read(), () => store.leases.list()]) {
        const from = performance.now()
        await expect(call()).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
        expect(performance.now() - from).toBeLessThan(1500)
      }
      proxy.mode = 'pass'
      await vi.waitFor(async () => expect(await store.data.read(locations)).toEqual([Buffer.from('block')]), {
        timeout: 5000,
      })
    })

    it('that is not there says what is', async () => {
      const store = await open('redis://127.0.0.1:1')
      await expect(store.check()).rejects.toMatchObject({
        code: 'STORE_UNREACHABLE',
        message: expect.stringContaining('ECONNREFUSED'),
        cause: expect.objectContaining({ message: expect.stringContaining('ECONNREFUSED') }),
      })
    })
  })
})

async function put(store: Store, objects: Uint8Array[]): Promise<Location[]> {
  const writer = await store.data.begin(newGeneration())
  const locations = await writer.put(objects)
  await writer.finish()
  return locations
}
