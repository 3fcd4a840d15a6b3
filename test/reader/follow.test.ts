import type { AddressInfo } from 'node:net'
import { createServer, type Server, type Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import type { Pointer } from '../../schemas/pointer.ts'
import { maxStale, open } from '../../src/index.ts'
import { freePort } from '../../src/local/free-port.ts'
import { startRedis } from '../../src/local/redis.ts'
import { openReader } from '../../src/reader/open.ts'
import { openStore } from '../../src/stores/open.ts'
import { breakable } from './breakable-store.ts'
import { kept } from './closing.ts'
import { TestDataset } from './dataset.ts'
import { shop } from './shop.ts'
import { storeKinds, testStore } from './stores.ts'

/** Takes connections and never answers. */
async function silentServer(): Promise<{ port: number; close(): Promise<void> }> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => sockets.add(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** A store that serves a version, as a reader meets it through the fault. */
async function following(options = {}) {
  const { store, dataset, connect } = await testStore('redis')
  kept(store)
  const first = await dataset.publish(shop(1))
  const broken = breakable(await connect())
  const reader = kept(await openReader([broken.store], dataset.name, { followLagMs: 200, ...options }))
  return { store, dataset, first, broken, reader, connect }
}

test('a store that is down at the start is waited for, as long as open was told, or not at all', async () => {
  const port = await freePort()
  const url = `redis://127.0.0.1:${port}`
  const atOnce = open(url, 'shop', { start: 'fail', waitMs: 600_000 })
  await expect(atOnce).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
  await expect(open(url, 'shop', { waitMs: 300 })).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
  const opening = open(url, 'shop', { waitMs: 20_000 })
  const redis = await startRedis({ port })
  try {
    const store = kept(await openStore(url, { dataset: 'shop' }))
    await new TestDataset('shop', store).publish(shop(1))
    expect(await kept(await opening).get('products', 1)).toEqual({ id: 1, mark: 1 })
  } finally {
    await redis.stop()
  }
})

test('a store that takes connections and never answers is given up after the command time-out', async () => {
  const server = kept(await silentServer())
  const opening = open(`redis://127.0.0.1:${server.port}`, 'shop', {
    start: 'fail',
    connectTimeoutMs: 200,
    commandTimeoutMs: 200,
  })
  await expect(opening).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
})

test('a dataset without an active version says so, with what to do', async () => {
  const { url } = await testStore('folder')
  await expect(open(url, 'nosuch', { start: 'fail' })).rejects.toMatchObject({
    code: 'NO_ACTIVE_VERSION',
    message: expect.stringContaining('nosuch'),
  })
})

test('a Redis that dies and comes back is an error meanwhile, and followed again afterwards', async () => {
  const port = await freePort()
  const url = `redis://127.0.0.1:${port}`
  let redis = await startRedis({ port })
  const reader = await (async () => {
    const store = kept(await openStore(url, { dataset: 'shop' }))
    await new TestDataset('shop', store).publish(shop(1))
    return kept(await open(url, 'shop', { followLagMs: 200, commandTimeoutMs: 500 }))
  })()
  const stale = new Promise((resolve) => reader.on('stale', resolve))
  await redis.crash()
  await expect(reader.get('products', 1)).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
  await stale
  expect(reader.stale).toBe(true)
  redis = await startRedis({ port })
  try {
    const store = kept(await openStore(url, { dataset: 'shop' }))
    const dataset = new TestDataset('shop', store)
    await dataset.publish(shop(1))
    await dataset.publish(shop(2))
    await expect.poll(() => reader.version.ordinal, { timeout: 10_000 }).toBe(2)
    expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 2 })
    expect(reader.stale).toBe(false)
  } finally {
    await redis.stop()
  }
})

test('a reader that cannot refresh the pointer answers with a mark, or with an error, as declared', async () => {
  const blocks = { blockCacheBytesMax: 1 << 20 }
  const marking = await following(blocks)
  await marking.reader.get('products', 1)
  marking.broken.down = true
  await expect.poll(() => marking.reader.stale, { timeout: 5000, interval: 10 }).toBe(true)
  const entry = await marking.reader.getEntry('products', 1)
  expect(entry).toMatchObject({ value: { id: 1, mark: 1 }, stale: true, source: 'memory' })
  expect(entry.ageMs).toBeGreaterThan(200)
  await expect(marking.reader.get('products', 1, { fresh: maxStale(100) })).rejects.toMatchObject({
    code: 'READER_STALE',
  })
  marking.broken.down = false
  await expect.poll(() => marking.reader.stale, { timeout: 5000, interval: 10 }).toBe(false)

  const failing = await following({ ...blocks, onStale: 'error', staleAfterMs: 300 })
  await failing.reader.get('products', 1)
  failing.broken.down = true
  await expect
    .poll(() => failing.reader.get('products', 1).catch((error) => error.code), { timeout: 5000, interval: 10 })
    .toBe('READER_STALE')
})

test('an answer that took longer than the follow lag is not stale for that', async () => {
  const { broken, reader } = await following()
  const { data } = broken.store
  const { read } = data
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  data.read = async (locations) => {
    await released
    return read(locations)
  }
  const answering = reader.getEntry('products', 1, { fresh: maxStale(0) })
  await expect.poll(() => broken.calls.pointer, { timeout: 5000, interval: 1 }).toBeGreaterThan(1)
  broken.down = 'pointer'
  await expect.poll(() => reader.stale, { timeout: 5000, interval: 10 }).toBe(true)
  release()
  const entry = await answering
  expect(entry).toMatchObject({ value: { id: 1, mark: 1 }, stale: false })
  expect(entry.ageMs).toBeGreaterThan(200)
})

test('a read after the process was paused for longer than the follow lag does not answer from before the pause', async () => {
  const { dataset, first, reader } = await following()
  const second = await dataset.build(shop(2), first)
  await dataset.flip(second)
  // Nothing of this process ran meanwhile: no push was heard, no poll was made.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400)
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 2 })
})

describe.each(storeKinds)('in a %s store', (kind) => {
  test('a read whose version was deleted meanwhile is answered whole by the next one', async () => {
    const { store, dataset, connect } = await testStore(kind)
    kept(store)
    let active = await dataset.publish(shop(1))
    const deaf = breakable(await connect())
    deaf.deaf = true
    const reader = kept(await openReader([deaf.store], dataset.name, { followLagMs: 60_000 }))
    const reads: Array<[() => Promise<unknown>, (mark: number) => unknown]> = [
      [() => reader.get('products', 1), (mark) => ({ id: 1, mark })],
      [() => reader.getMany('products', [1, 700, 1499]), (mark) => [1, 700, 1499].map((id) => ({ id, mark }))],
      [() => reader.list('byCategory', 'c6'), (mark) => [6, 13, 20, 27, 34, 41, 48, 55].map((id) => ({ id, mark }))],
      [() => reader.has('products', 2), () => true],
    ]
    for (const [read, expected] of reads) {
      const old = active
      for (let flips = 0; flips < 2; flips++) active = await dataset.publish(shop(active.ref.ordinal + 1), active)
      await dataset.retire(old)
      expect(await dataset.sweep(old)).toBe(true)
      const value = await read()
      // An open file outlives its name: in a folder the version that was deleted may still answer, whole.
      const marks = kind === 'folder' ? [...Array(active.ref.ordinal).keys()].map((at) => at + 1) : [active.ref.ordinal]
      expect(marks.map(expected)).toContainEqual(value)
    }
    if (kind !== 'folder') expect(reader.counters.retries).toBeGreaterThan(0)
  })
})

test('Redis tells of a flip: long before the next poll the reader is there', async () => {
  const { dataset, first, reader } = await following({ followLagMs: 60_000 })
  await dataset.publish(shop(2), first)
  await expect.poll(() => reader.version.ordinal, { timeout: 5000, interval: 5 }).toBe(2)
})

test('maxStale(0) reads pointer and block at the same time', async () => {
  const { broken, reader } = await following({ followLagMs: 60_000 })
  await reader.get('products', 1)
  const reads = broken.calls.read ?? 0
  const pointers = broken.calls.pointer ?? 0
  // Whoever waits for the pointer before it asks for the block waits here for ever.
  broken.beforePointer = () => expect.poll(() => broken.calls.read, { interval: 1 }).toBe(reads + 1)
  expect(await reader.get('products', 1, { fresh: maxStale(0) })).toEqual({ id: 1, mark: 1 })
  expect(broken.calls).toMatchObject({ read: reads + 1, pointer: pointers + 1 })
})

test('maxStale(0) never answers from a version that was left before the call', async () => {
  const { dataset, first, reader } = await following({ followLagMs: 60_000 })
  const second = await dataset.publish(shop(2), first)
  for (let round = 0; round < 20; round++) {
    const version = round % 2 === 0 ? first : second
    await dataset.flip(version)
    const { mark } = (await reader.get('products', 1, { fresh: maxStale(0) })) as { mark: number }
    expect(mark).toBe(version.ref.ordinal)
  }
})

test('a lower epoch is not followed, until the version that is served is gone', async () => {
  const { store, dataset, first, reader } = await following()
  const before = (await store.pointer.read())?.pointer as Pointer
  const second = await dataset.publish(shop(2), first)
  await expect.poll(() => reader.version.ordinal, { interval: 5 }).toBe(2)
  // As an asynchronous replica that was promoted has it.
  const errors: unknown[] = []
  reader.on('error', (error) => errors.push(error))
  await store.pointer.swap((await store.pointer.read())?.token ?? null, before)
  await expect.poll(() => reader.counters.lowerEpochs, { timeout: 5000, interval: 10 }).toBeGreaterThan(0)
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 2 })
  expect(errors[0]).toMatchObject({ code: 'READER_STALE', message: expect.stringContaining('below 2') })
  await expect.poll(() => reader.stale, { timeout: 5000, interval: 10 }).toBe(true)
  await store.data.deleteManifest(second.ref.tag)
  await store.data.deleteGeneration(second.manifest.generation)
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
  expect(reader.version).toEqual(first.ref)
})

test('a store that lost its pointer does not take the reader back to nothing', async () => {
  const { broken, reader, first } = await following()
  const read = broken.store.pointer.read
  broken.store.pointer.read = async () => null
  await expect.poll(() => reader.stale, { timeout: 5000, interval: 10 }).toBe(true)
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
  broken.store.pointer.read = read
  await expect.poll(() => reader.stale, { timeout: 5000, interval: 10 }).toBe(false)
  expect(reader.version).toEqual(first.ref)
})

test('a pointer that names the manifest of another version is refused, and the reader stays', async () => {
  const { store, dataset, first, reader } = await following()
  const second = await dataset.build(shop(2), first)
  const { pointer, token } = (await store.pointer.read()) as { pointer: Pointer; token: string }
  const errors: Array<{ code: string; message: string }> = []
  reader.on('error', (error) => errors.push(error as (typeof errors)[number]))
  const active = { ...second.ref, manifest: first.ref.manifest }
  await store.pointer.swap(token, { ...pointer, active, epoch: { registry: 2, breakGlass: 0 } })
  await expect.poll(() => errors[0], { timeout: 5000, interval: 10 }).toMatchObject({ code: 'CORRUPT' })
  expect(errors[0]?.message).toContain(`manifest of ${second.ref.tag}`)
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
})

test('a read of the pointer that a later one overtook is no flip undone', async () => {
  const { dataset, first, broken, reader } = await following({ followLagMs: 60_000 })
  broken.deaf = true
  const { pointer } = broken.store
  const read = pointer.read
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  const { promise: wasRead, resolve: tellRead } = Promise.withResolvers<void>()
  pointer.read = async () => {
    const found = await read()
    tellRead()
    await released
    return found
  }
  const overtaken = reader.get('products', 1, { fresh: maxStale(0) })
  await wasRead
  pointer.read = read
  await dataset.publish(shop(2), first)
  expect(await reader.get('products', 1, { fresh: maxStale(0) })).toEqual({ id: 1, mark: 2 })
  release()
  expect(await overtaken).toEqual({ id: 1, mark: 2 })
  expect(reader.counters.lowerEpochs).toBe(0)
})

test('a listener that throws stops neither the reader nor a read', async () => {
  const { dataset, first, broken, reader } = await following()
  const thrown: string[] = []
  const before = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', (error) => thrown.push(error.message))
  for (const event of ['flip', 'stale', 'error'] as const)
    reader.on(event, () => {
      throw new Error(`by the ${event} listener`)
    })
  try {
    const second = await dataset.publish(shop(2), first)
    expect(await reader.get('products', 1, { fresh: maxStale(0) })).toEqual({ id: 1, mark: 2 })
    broken.down = true
    await expect.poll(() => thrown, { timeout: 5000, interval: 10 }).toContain('by the stale listener')
    broken.down = false
    await dataset.publish(shop(3), second)
    await expect.poll(() => reader.version.ordinal, { timeout: 5000, interval: 10 }).toBe(3)
    expect(reader.stale).toBe(false)
  } finally {
    process.removeAllListeners('uncaughtException')
    for (const listener of before) process.on('uncaughtException', listener)
  }
  expect([...new Set(thrown)].sort()).toEqual(['error', 'flip', 'stale'].map((event) => `by the ${event} listener`))
})

test('a closed reader asks its store for nothing more', async () => {
  const { reader, broken, dataset, connect } = await following({ followLagMs: 20 })
  await reader.close()
  const calls = { ...broken.calls }
  // Another reader of the same lag has polled several times meanwhile.
  const other = breakable(await connect())
  kept(await openReader([other.store], dataset.name, { followLagMs: 20 }))
  await expect.poll(() => other.calls.pointer, { timeout: 5000, interval: 5 }).toBeGreaterThan(5)
  expect(broken.calls).toEqual(calls)
})
