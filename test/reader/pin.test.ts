import { describe, expect, test } from 'vitest'
import { open } from '../../src/index.ts'
import { openReader } from '../../src/reader/open.ts'
import { breakable } from './breakable-store.ts'
import { kept } from './closing.ts'
import { shop } from './shop.ts'
import { storeKinds, testStore } from './stores.ts'

describe.each(storeKinds)('a pin in a %s store', (kind) => {
  test('answers from its version across flips and retirement, and the version goes when it ends', async () => {
    const { url, store, dataset } = await testStore(kind)
    kept(store)
    const first = await dataset.publish(shop(1))
    const reader = kept(await open(url, dataset.name))
    const pin = await reader.pin()
    expect(pin.protected).toBe(true)
    const second = await dataset.publish(shop(2), first)
    await dataset.publish(shop(3), second)
    await dataset.retire(first)
    expect(await dataset.sweep(first)).toBe(false)
    await expect.poll(() => reader.version.ordinal, { timeout: 5000, interval: 5 }).toBe(3)
    expect(pin.version).toEqual(first.ref)
    expect(await pin.getMany('products', [1, 1499, 1500])).toEqual([
      { id: 1, mark: 1 },
      { id: 1499, mark: 1 },
      undefined,
    ])
    expect(await pin.list('byCategory', 'c3')).toContainEqual({ id: 3, mark: 1 })
    await pin.end()
    expect(await dataset.sweep(first)).toBe(true)
    await expect(pin.get('products', 1)).rejects.toMatchObject({ code: 'READER_CLOSED' })
  })

  test('on a version that was deleted although it was unprotected says VERSION_RETIRED, never undefined', async () => {
    const { store, dataset, connect } = await testStore(kind)
    kept(store)
    const first = await dataset.publish(shop(1))
    const readOnly = breakable(await connect())
    readOnly.readOnly = true
    const reader = kept(await openReader([readOnly.store], dataset.name))
    await using pin = await reader.pin()
    expect(pin.protected).toBe(false)
    expect(await pin.get('products', 1)).toEqual({ id: 1, mark: 1 })
    const second = await dataset.publish(shop(2), first)
    await dataset.publish(shop(3), second)
    await dataset.retire(first)
    expect(await dataset.sweep(first)).toBe(true)
    const outcomes = await Promise.allSettled([
      pin.get('products', 1),
      pin.getMany('products', [5, 6]),
      pin.list('byCategory', 'c0'),
      pin.has('products', 3),
      pin.get('products', 99_999),
    ])
    const codes = outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)
    if (kind !== 'folder') expect(codes).toEqual(new Array(5).fill('VERSION_RETIRED'))
    // An open file outlives its name: there the version may still answer, and then by its own values.
    else if (outcomes[0].status === 'fulfilled') expect(outcomes[0].value).toEqual({ id: 1, mark: 1 })
    else expect(codes[0]).toBe('VERSION_RETIRED')
  })
})

test('a pin is renewed for as long as it lasts', async () => {
  const { url, store, dataset } = await testStore('redis')
  kept(store)
  await dataset.publish(shop(1))
  const reader = kept(await open(url, dataset.name))
  await using pin = await reader.pin({ ttlMs: 300 })
  const ends = new Set<number>()
  await expect
    .poll(
      async () => {
        for (const lease of await store.leases.list()) ends.add(lease.expiresAt.getTime())
        return ends.size
      },
      { timeout: 5000, interval: 20 },
    )
    .toBeGreaterThanOrEqual(6)
  expect(pin.protected).toBe(true)
  expect(await store.leases.list()).toHaveLength(1)
})

test('a pin whose lease could not be renewed in time is unprotected, and protected again when nothing was lost', async () => {
  const { store, dataset, connect } = await testStore('redis')
  kept(store)
  const first = await dataset.publish(shop(1))
  const broken = breakable(await connect())
  const reader = kept(await openReader([broken.store], dataset.name))
  await using pin = await reader.pin({ ttlMs: 200 })
  broken.down = true
  await expect.poll(() => pin.protected, { timeout: 5000, interval: 10 }).toBe(false)
  broken.down = false
  await expect.poll(() => pin.protected, { timeout: 5000, interval: 10 }).toBe(true)
  broken.down = true
  await expect.poll(() => pin.protected, { timeout: 5000, interval: 10 }).toBe(false)
  const second = await dataset.publish(shop(2), first)
  await dataset.publish(shop(3), second)
  await dataset.retire(first)
  await expect.poll(() => dataset.sweep(first), { timeout: 5000, interval: 50 }).toBe(true)
  broken.down = false
  await expect.poll(() => broken.calls.lease, { interval: 10 }).toBeGreaterThan(5)
  await expect(pin.get('products', 1)).rejects.toMatchObject({ code: 'VERSION_RETIRED' })
  expect(pin.protected).toBe(false)
})

test('a pin on a named version reads it; on one that is retired, gone or unknown it says so', async () => {
  const { url, store, dataset } = await testStore('folder')
  kept(store)
  const first = await dataset.publish(shop(1))
  const second = await dataset.publish(shop(2), first)
  await dataset.publish(shop(3), second)
  const reader = kept(await open(url, dataset.name))
  const pin = await reader.pin({ version: first.ref.tag })
  expect(await pin.get('products', 1)).toEqual({ id: 1, mark: 1 })
  expect(pin.version).toEqual(first.ref)
  await dataset.retire(first)
  await expect(reader.pin({ version: first.ref.tag })).rejects.toMatchObject({ code: 'VERSION_RETIRED' })
  await pin.end()
  // Half deleted: what it names goes first, then the manifest.
  const cold = kept(await open(url, dataset.name))
  await store.data.deleteGeneration(first.manifest.generation)
  await expect(cold.pin({ version: first.ref.tag })).rejects.toMatchObject({ code: 'VERSION_RETIRED' })
  // The lease of the refused pin was given back too.
  expect(await dataset.sweep(first)).toBe(true)
  await expect(reader.pin({ version: first.ref.tag })).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' })
  for (const ttlMs of [0, Number.NaN, 2 ** 31])
    await expect(reader.pin({ ttlMs })).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('from 100 to 2147483647'),
    })
  for (const version of ['', 'latest', '../x', 3 as never])
    await expect(reader.pin({ version })).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' })
  await expect(reader.pin({ version: 'v20990101-01' })).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' })
})

test('a pin that is being taken while its reader closes holds nothing afterwards', async () => {
  const { store, dataset, connect } = await testStore('folder')
  kept(store)
  const { ref } = await dataset.publish(shop(1))
  const watched = breakable(await connect())
  const reader = await openReader([watched.store], dataset.name, { followLagMs: 60_000 })
  watched.deaf = true
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  watched.beforePointer = () => released
  const pinning = [reader.pin(), reader.pin({ version: ref.tag })].map((pin) => pin.catch((error) => error.code))
  // Both leases are written; what is waited for is the pointer that says whether they came in time.
  await expect.poll(async () => (await store.leases.list()).length, { interval: 5 }).toBe(2)
  const closing = reader.close()
  release()
  expect(await Promise.all(pinning)).toEqual(['READER_CLOSED', 'READER_CLOSED'])
  await closing
  expect(await store.leases.list()).toEqual([])
})

test('a version that is retired between being chosen and being leased is not pinned; the next one is', async () => {
  const { store, dataset, connect } = await testStore('folder')
  kept(store)
  const first = await dataset.publish(shop(1))
  const watched = breakable(await connect())
  const reader = kept(await openReader([watched.store], dataset.name, { followLagMs: 60_000 }))
  const second = await dataset.publish(shop(2), first)
  await dataset.publish(shop(3), second)
  await dataset.retire(first)
  // The reader has not heard of it: its lag is long, and nothing has woken it since.
  const pin = await reader.pin()
  expect(pin.version.ordinal).toBe(3)
  expect(await pin.get('products', 1)).toEqual({ id: 1, mark: 3 })
})
