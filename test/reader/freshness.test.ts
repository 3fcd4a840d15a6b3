import { expect, test } from 'vitest'
import { atLeast, type Freshness, maxStale, type ReaderOptions } from '../../src/index.ts'
import { openReader } from '../../src/reader/open.ts'
import { breakable } from './breakable-store.ts'
import { kept } from './closing.ts'
import { shop } from './shop.ts'
import { testStore } from './stores.ts'

/** A shop in a folder, and a reader that polls seldom: what it learns it learns from the read itself. */
async function watchedShop(options: ReaderOptions = {}) {
  const { store, dataset, connect } = await testStore('folder')
  kept(store)
  const version = await dataset.publish(shop(1))
  const watched = breakable(await connect())
  watched.deaf = true
  const reader = kept(await openReader([watched.store], dataset.name, { followLagMs: 60_000, ...options }))
  const get = (fresh: Freshness) => reader.get('products', 1, { fresh })
  return { dataset, version, watched, reader, get }
}

test('atLeast waits for the version, and gives up after the time it was given', async () => {
  const { dataset, version, reader } = await watchedShop({ waitMs: 1000 })
  const second = await dataset.build(shop(2), version)
  expect(await reader.get('products', 1, { fresh: atLeast(version.ref.tag) })).toEqual({ id: 1, mark: 1 })
  await expect(reader.get('products', 1, { fresh: atLeast(second.ref.tag) })).rejects.toMatchObject({
    code: 'READER_STALE',
  })
  const waiting = reader.get('products', 1, { fresh: atLeast(second.ref.tag) })
  await dataset.flip(second)
  expect(await waiting).toEqual({ id: 1, mark: 2 })
  // After a rollback the reader is behind it again.
  await dataset.flip(version)
  expect(await reader.get('products', 1, { fresh: maxStale(0) })).toEqual({ id: 1, mark: 1 })
  await expect(reader.get('products', 1, { fresh: atLeast(second.ref.tag) })).rejects.toMatchObject({
    code: 'READER_STALE',
  })
})

test('atLeast gives up in time, and says why, when the pointer does not answer', async () => {
  const { dataset, version, reader, watched: slow } = await watchedShop({ waitMs: 100 })
  const second = await dataset.build(shop(2), version)
  let answer = () => {}
  slow.beforePointer = () => new Promise((resolve) => (answer = resolve))
  const failure = await reader.get('products', 1, { fresh: atLeast(second.ref.tag) }).catch((error) => error)
  slow.beforePointer = null
  answer()
  expect(failure).toMatchObject({ code: 'READER_STALE', message: expect.stringContaining(second.ref.tag) })
})

test('a version that no store knows is told so after a few looks, not after the time it would be waited for', async () => {
  const { watched, get } = await watchedShop({ waitMs: 600_000 })
  await expect(get(atLeast('v20990101-01'))).rejects.toMatchObject({
    code: 'UNKNOWN_VERSION',
    message: expect.stringContaining('v20990101-01'),
  })
  expect(watched.calls.readManifest).toBeLessThan(10)
  const looks = watched.calls.readManifest
  for (const tag of ['latest', '', '../pointer'])
    await expect(get(atLeast(tag))).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' })
  expect(watched.calls.readManifest).toBe(looks)
})

test('a version that is sealed a moment later is waited for', async () => {
  const { dataset, version, get } = await watchedShop()
  const answering = get(atLeast(`v20260518-0${dataset.nextOrdinal}`))
  await dataset.publish(shop(2), version)
  expect(await answering).toEqual({ id: 1, mark: 2 })
})

test('of a store that does not answer nobody says what it does not know', async () => {
  const { watched, get } = await watchedShop({ waitMs: 300 })
  watched.down = 'data'
  await expect(get(atLeast('v20990101-01'))).rejects.toMatchObject({
    code: 'READER_STALE',
    cause: { code: 'STORE_UNREACHABLE' },
  })
})

test('a version that was deleted is reached by all later ones: by its ref at once, by its tag where it was served', async () => {
  const { dataset, version, watched, get } = await watchedShop()
  const second = await dataset.publish(shop(2), version)
  const third = await dataset.publish(shop(3), second)
  await dataset.publish(shop(3), third)
  expect(await get(maxStale(0))).toEqual({ id: 1, mark: 3 })
  for (const old of [version, second]) {
    await dataset.retire(old)
    expect(await dataset.sweep(old)).toBe(true)
  }
  const { pointer, readManifest } = watched.calls
  expect(await get(atLeast(version.ref))).toEqual({ id: 1, mark: 3 })
  expect(await get(atLeast(second.ref))).toEqual({ id: 1, mark: 3 })
  expect(await get(atLeast(version.ref.tag))).toEqual({ id: 1, mark: 3 })
  expect(watched.calls).toMatchObject({ pointer, readManifest })
  // This reader never served it, and no store has it any more: of a tag alone nobody can say where it was.
  await expect(get(atLeast(second.ref.tag))).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' })
})

test('a version given whole is waited for before any store knows it', async () => {
  const { dataset, version, get } = await watchedShop()
  const coming = { ...version.ref, tag: 'v20260518-02', ordinal: 2 }
  const waiting = Promise.all(Array.from({ length: 30 }, () => get(atLeast(coming))))
  const warnings: Error[] = []
  const warned = (warning: Error) => warnings.push(warning)
  process.on('warning', warned)
  await dataset.publish(shop(2), version)
  expect(await waiting).toEqual(new Array(30).fill({ id: 1, mark: 2 }))
  process.off('warning', warned)
  expect(warnings).toEqual([])
})

test('what says no freshness is refused, never taken for any', async () => {
  const { watched, get, version } = await watchedShop()
  watched.down = true
  const none = [
    maxStale(Number.NaN),
    maxStale(-1),
    maxStale(Number.POSITIVE_INFINITY),
    atLeast(undefined as never),
    atLeast({ ...version.ref, ordinal: Number.NaN }),
    'strong' as never,
    {} as never,
    null as never,
  ]
  for (const fresh of none) await expect(get(fresh)).rejects.toMatchObject({ code: 'USAGE' })
})
