import { Gauge, Registry } from 'prom-client'
import { expect, test } from 'vitest'
import { maxStale, open, type ReaderLogger, type ReaderOptions } from '../../src/index.ts'
import { openReader } from '../../src/reader/open.ts'
import { sampleOf } from '../observe/scrape.ts'
import { breakable } from './breakable-store.ts'
import { kept } from './closing.ts'
import { shop } from './shop.ts'
import { testStore } from './stores.ts'

/** A shop in a folder, read through the fault. */
async function shopWith(options: ReaderOptions = {}) {
  const { url, store, dataset, connect } = await testStore('folder')
  kept(store)
  const version = await dataset.publish(shop(1))
  const watched = breakable(await connect())
  const reader = kept(await openReader([watched.store], dataset.name, options))
  return { url, dataset, version, watched, reader }
}

const refused: Array<[ReaderOptions, string]> = [
  [{ followLagMs: 0 }, 'followLagMs'],
  [{ followLagMs: Number.NaN }, 'followLagMs'],
  [{ waitMs: -1 }, 'waitMs'],
  [{ waitMs: Number.POSITIVE_INFINITY }, 'waitMs'],
  [{ followLagMs: 500, staleAfterMs: 400 }, 'staleAfterMs'],
  [{ connectTimeoutMs: 0 }, 'connectTimeoutMs'],
  [{ commandTimeoutMs: 0 }, 'commandTimeoutMs'],
  [{ pageCacheBytesMax: -1 }, 'pageCacheBytesMax'],
  [{ blockCacheBytesMax: '64' as never }, 'blockCacheBytesMax'],
  [{ start: 'later' as never }, 'start'],
  [{ onStale: 'ignore' as never }, 'onStale'],
  [{ metrics: true as never }, 'metrics'],
  [{ metrics: null as never }, 'metrics'],
]
test.each(refused)('%o is refused before any store is asked', async (options, option) => {
  await expect(open('redis://nowhere.invalid:1', 'shop', options)).rejects.toMatchObject({
    code: 'USAGE',
    details: { option },
    message: expect.stringContaining(`Option ${option} of open is `),
  })
})

test('metrics go to the registry of the application, told apart by whether a build holds its lease in the store', async () => {
  const metrics = new Registry()
  const { reader, dataset, watched, version } = await shopWith({ metrics })
  // Calls are timed one in 16.
  for (let id = 0; id < 32; id++) await reader.get('products', id)
  await reader.get('products', 99_999)
  const text = await metrics.metrics()
  const labels = { dataset: dataset.name, store: reader.store }
  expect(sampleOf(text, 'snapflip_reads_total', { ...labels, outcome: 'hit' })).toBe(32)
  expect(sampleOf(text, 'snapflip_reads_total', { ...labels, outcome: 'miss' })).toBe(1)
  expect(sampleOf(text, 'snapflip_reader_unconfirmed_seconds')).toBeGreaterThanOrEqual(0)

  const lease = { id: 'build:1', tag: version.ref.tag, kind: 'build', ttlMs: 60_000 } as const
  await watched.store.leases.put(lease)
  const building = kept(await openReader([watched.store], dataset.name, { metrics }))
  const count = async () =>
    sampleOf(await metrics.metrics(), 'snapflip_read_duration_seconds_count', { refreshing: 'true' }) ?? 0
  await expect
    .poll(async () => {
      for (let id = 0; id < 16; id++) await building.get('products', id)
      return count()
    })
    .toBeGreaterThan(0)
})

test('a registry that has another metric of a name is refused, and nothing goes on behind it', async () => {
  const metrics = new Registry()
  const name = 'snapflip_read_duration_seconds'
  new Gauge({ name, help: 'another', registers: [metrics] })
  const { watched, dataset } = await shopWith()
  const { watch } = watched.store.pointer
  const watches: AbortSignal[] = []
  watched.store.pointer.watch = (options) => {
    watches.push(options.signal)
    watch(options)
  }
  const opening = openReader([watched.store], dataset.name, { metrics })
  await expect(opening).rejects.toMatchObject({
    code: 'USAGE',
    details: { option: 'metrics' },
    message: expect.stringContaining(name),
  })
  expect(watches.map(({ aborted }) => aborted)).toEqual([true])
  metrics.removeSingleMetric(name)
  await kept(await openReader([watched.store], dataset.name, { metrics })).get('products', 1)
  expect(sampleOf(await metrics.metrics(), 'snapflip_reads_total', { outcome: 'hit' })).toBe(1)
})

test('an outage shows in the metrics of readers: calls that nothing could answer, whoever is to blame', async () => {
  const metrics = new Registry()
  const { reader, dataset, watched, version } = await shopWith({ metrics, onStale: 'error', followLagMs: 60_000 })
  const late = kept(
    await openReader([watched.store], dataset.name, { metrics, onStale: 'error', followLagMs: 50, waitMs: 100 }),
  )
  await using pin = await reader.pin()
  watched.down = true
  const codeOf = (answer: Promise<unknown>) => answer.then(String, ({ code }) => code)
  const codes = [await codeOf(reader.get('products', 1)), await codeOf(pin.get('products', 1))]
  await expect.poll(() => late.stale, { timeout: 5000, interval: 5 }).toBe(true)
  codes.push(await codeOf(late.get('products', 1)), await codeOf(late.get('products', 1, { fresh: maxStale(0) })))
  expect(codes).toEqual(['STORE_UNREACHABLE', 'STORE_UNREACHABLE', 'READER_STALE', 'READER_STALE'])
  watched.down = false
  const at = new Date().toISOString()
  const ttl = { budgetMs: 1, beyond: 'refuse' } as const
  await dataset.change({ kind: 'fresh', expectedTag: version.ref.tag, freshAsOf: { snapshot: '10:20:', at }, ttl })
  await expect.poll(() => late.expired, { timeout: 5000 }).toBe(true)
  expect(await codeOf(reader.get('products', 1, { fresh: maxStale(0) }))).toBe('VERSION_EXPIRED')
  expect(await codeOf(reader.get('products', 1))).toBe('VERSION_EXPIRED')
  // Asked wrongly, it was no outage; nor is a key that is not there.
  await expect(pin.get('nosuch', 1)).rejects.toMatchObject({ code: 'UNKNOWN_INDEX' })
  expect(await pin.get('products', 99_999)).toBeUndefined()
  const text = await metrics.metrics()
  const countOf = (outcome: string) => sampleOf(text, 'snapflip_reads_total', { outcome })
  expect(['unavailable', 'error', 'miss'].map(countOf)).toEqual([6, 0, 1])
})

test('start: wait waits for a first version too, and says what is missing when none comes', async () => {
  const { url, store, dataset } = await testStore('folder')
  kept(store)
  await expect(open(url, dataset.name, { waitMs: 200 })).rejects.toMatchObject({ code: 'NO_ACTIVE_VERSION' })
  const opening = open(url, dataset.name)
  await dataset.publish(shop(1))
  expect(await kept(await opening).get('products', 1)).toEqual({ id: 1, mark: 1 })
})

test('start: wait does not wait for what time does not mend', async () => {
  const { url, store, dataset } = await testStore('folder')
  kept(store)
  const { ref } = await dataset.publish(shop(1))
  await store.data.deleteManifest(ref.tag)
  await expect(open(url, dataset.name, { waitMs: 600_000 })).rejects.toMatchObject({ code: 'CORRUPT' })
})

test('waitMs bounds a read that must refresh a pointer that does not answer', async () => {
  const { reader, watched } = await shopWith({ waitMs: 100, followLagMs: 60_000 })
  watched.deaf = true
  const { promise: never, resolve: end } = Promise.withResolvers<void>()
  watched.beforePointer = () => never
  const failure = await reader.get('products', 1, { fresh: maxStale(0) }).catch((error) => error)
  end()
  expect(failure).toMatchObject({ code: 'READER_STALE', message: expect.stringContaining('within 100 ms') })
})

test('commandTimeoutMs bounds how long an unpinned read waits for the pointer before it answers with a mark', async () => {
  const { reader, watched } = await shopWith({ commandTimeoutMs: 100, followLagMs: 50 })
  const { promise: never, resolve: end } = Promise.withResolvers<void>()
  watched.beforePointer = () => never
  await expect.poll(() => reader.stale, { timeout: 5000, interval: 5 }).toBe(true)
  const entry = await reader.getEntry('products', 1)
  end()
  expect(entry).toMatchObject({ value: { id: 1, mark: 1 }, stale: true })
})

test('staleAfterMs: until then a stale version answers, with a mark, although onStale is error', async () => {
  const { reader, watched } = await shopWith({ followLagMs: 50, onStale: 'error', staleAfterMs: 600_000 })
  watched.down = 'pointer'
  await expect.poll(() => reader.stale, { timeout: 5000, interval: 5 }).toBe(true)
  expect(await reader.getEntry('products', 1)).toMatchObject({ value: { id: 1, mark: 1 }, stale: true })
})

test('without blockCacheBytesMax no block is kept', async () => {
  const { reader } = await shopWith()
  for (let round = 0; round < 2; round++)
    expect(await reader.getEntry('products', 7)).toMatchObject({ value: { id: 7 }, source: 'store' })
  expect(reader.counters.blockCacheHits).toBe(0)
})

test('pageCacheBytesMax bounds what is kept of the pages', async () => {
  const ids = Array.from({ length: 1500 }, (_, id) => id)
  const roomy = await shopWith()
  const tight = await shopWith({ pageCacheBytesMax: 12_000 })
  for (const { reader } of [roomy, tight]) for (let round = 0; round < 3; round++) await reader.getMany('products', ids)
  expect(roomy.reader.counters.pageReads).toBe(7)
  expect(tight.reader.counters.pageReads).toBeGreaterThan(7)
})

test('the logger is told of flips, of a pointer that cannot be refreshed, and of errors', async () => {
  const told: Array<[string, Record<string, unknown>, string]> = []
  const logger: ReaderLogger = {
    info: (fields, message) => told.push(['info', fields, message]),
    warn: (fields, message) => told.push(['warn', fields, message]),
  }
  const { reader, watched, dataset, version } = await shopWith({ followLagMs: 50, logger })
  const second = await dataset.publish(shop(2), version)
  await expect.poll(() => reader.version.tag, { timeout: 5000, interval: 5 }).toBe(second.ref.tag)
  watched.down = true
  await expect.poll(() => told.map(([level]) => level), { timeout: 5000, interval: 5 }).toContain('warn')
  await expect.poll(() => told.length, { timeout: 5000, interval: 5 }).toBeGreaterThanOrEqual(4)
  expect(told).toContainEqual([
    'info',
    { dataset: dataset.name, store: reader.store, from: version.ref.tag, version: second.ref.tag },
    'reads answer from another version',
  ])
  expect(told).toContainEqual([
    'warn',
    { dataset: dataset.name, store: reader.store, version: second.ref.tag, ageMs: expect.any(Number) },
    'the pointer cannot be refreshed',
  ])
  expect(told).toContainEqual([
    'warn',
    { dataset: dataset.name, err: expect.objectContaining({ code: 'STORE_UNREACHABLE' }) },
    'the reader met an error',
  ])
})
