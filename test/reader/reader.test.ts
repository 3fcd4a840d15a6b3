import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { maxStale, open } from '../../src/index.ts'
import { openReader } from '../../src/reader/open.ts'
import { breakable } from './breakable-store.ts'
import { kept } from './closing.ts'
import { shop } from './shop.ts'
import { storeKinds, testStore } from './stores.ts'

describe.each(storeKinds)('a reader of a %s store', (kind) => {
  test('answers get, getMany, list and has from the active version', async () => {
    const { url, store, dataset } = await testStore(kind)
    kept(store)
    const version = await dataset.publish(shop(1))
    const reader = kept(await open(url, dataset.name))
    expect(reader.version).toEqual(version.ref)
    expect(await reader.get('products', 42)).toEqual({ id: 42, mark: 1 })
    expect(await reader.get('products', '42')).toEqual({ id: 42, mark: 1 })
    expect(await reader.get('products', 1500)).toBeUndefined()
    expect(await reader.getMany('products', [3, 99999, 3n, 1499])).toEqual([
      { id: 3, mark: 1 },
      undefined,
      { id: 3, mark: 1 },
      { id: 1499, mark: 1 },
    ])
    expect(await reader.list('byCategory', 'c3')).toEqual(
      [3, 10, 17, 24, 31, 38, 45, 52, 59].map((id) => ({ id, mark: 1 })),
    )
    expect(await reader.list('byCategory', 'c9')).toEqual([])
    expect(await reader.has('products', 1)).toBe(true)
    expect(await reader.has('products', -1)).toBe(false)
    expect(await reader.has('byCategory', 'c0')).toBe(true)
    expect(await reader.get('prices', ['de', 7])).toBe(100)
    expect(await reader.getEntry('products', 1)).toMatchObject({
      value: { id: 1, mark: 1 },
      version: version.ref,
      stale: false,
      source: 'store',
      store: store.url,
    })
    expect((await reader.getBytes('products', 1))?.toString()).toBe('{"id":1,"mark":1}')
  })

  test('follows a flip, and a flip back', async () => {
    const { url, store, dataset } = await testStore(kind)
    kept(store)
    const first = await dataset.publish(shop(1))
    const reader = kept(await open(url, dataset.name))
    expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
    const second = await dataset.publish(shop(2, 10), first)
    await expect.poll(() => reader.version.tag, { timeout: 5000, interval: 5 }).toBe(second.ref.tag)
    expect(await reader.getMany('products', [1, 9, 10])).toEqual([
      { id: 1, mark: 2 },
      { id: 9, mark: 2 },
      { id: 10, mark: 1 },
    ])
    await dataset.flip(first)
    expect(await reader.get('products', 1, { fresh: maxStale(0) })).toEqual({ id: 1, mark: 1 })
  })
})

async function folderShop(options = {}) {
  const { url, store, dataset, connect } = await testStore('folder')
  kept(store)
  const version = await dataset.publish(shop(1))
  const reader = kept(await open(url, dataset.name, options))
  return { url, store, dataset, connect, version, reader }
}

test('an index that is not there, of another kind or with other key parts gets an error that says what there is', async () => {
  const { reader } = await folderShop()
  await expect(reader.get('product', 1)).rejects.toMatchObject({
    code: 'UNKNOWN_INDEX',
    message: expect.stringContaining('expected one of byCategory, prices, products'),
  })
  await expect(reader.get('byCategory', 'c1')).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
    message: expect.stringContaining('use list'),
  })
  await expect(reader.list('products', 1)).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
    message: expect.stringContaining('use get'),
  })
  await expect(reader.get('prices', 'de')).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
    message: expect.stringContaining('has 2 parts, found 1'),
  })
})

test('what can be no key is refused, never looked up as another key', async () => {
  const { reader } = await folderShop()
  for (const key of ['a\ud800', 'a\0b', 2 ** 60, null, undefined, {}])
    await expect(reader.get('products', key as string)).rejects.toMatchObject({ code: 'USAGE' })
  for (const keys of ['12', null, undefined, 7])
    await expect(reader.getMany('products', keys as never)).rejects.toMatchObject({ code: 'USAGE' })
})

test('a key with a zero byte is not the key of two parts that is written with one', async () => {
  const { url, store, dataset } = await testStore('folder')
  kept(store)
  // Of events: a key may have any number of parts.
  await dataset.publish({ visits: { kind: 'unique', keyParts: 0, entries: [[['a', 'b'], 1] as const] } })
  const reader = kept(await open(url, dataset.name))
  expect(await reader.get('visits', ['a', 'b'])).toBe(1)
  await expect(reader.get('visits', 'a\0b')).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining('a zero byte'),
  })
})

test('a number whose text PostgreSQL writes in another way is refused, not looked up as what it is not', async () => {
  const { url, store, dataset } = await testStore('folder')
  kept(store)
  // As float8 writes them: JavaScript writes 0.00001, 0.0001, 1e-7 and 3000000000000000.5.
  const written = ['1e-05', '0.0001', '1e-07', '1.5', '3.0000000000000005e+15', 'NaN', '-Infinity', '-12']
  await dataset.publish({ rates: { kind: 'unique', entries: written.map((text) => [text, text] as const) } })
  const reader = kept(await open(url, dataset.name))
  expect(await reader.getMany('rates', [1.5, 0.0001, Number.NaN, Number.NEGATIVE_INFINITY, -12])).toEqual([
    '1.5',
    '0.0001',
    'NaN',
    '-Infinity',
    '-12',
  ])
  for (const key of [0.00001, 1e-7, -1e-7, 3e15 + 0.5]) {
    await expect(reader.get('rates', key)).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('as PostgreSQL writes it'),
    })
  }
})

test('open refuses what names no store and what names no dataset', async () => {
  const { url } = await testStore('folder')
  for (const urls of [[], undefined, null, [undefined], 7])
    await expect(open(urls as never, 'shop')).rejects.toMatchObject({ code: 'USAGE' })
  for (const name of ['', '../shop', 'a b', undefined, 'x'.repeat(64)])
    await expect(open(url, name as never)).rejects.toMatchObject({ code: 'USAGE', details: { option: 'dataset' } })
})

test('a typed reader that meets another shape gets one error that names both shapes and the version', async () => {
  const titled = z.object({ id: z.number(), title: z.string() })
  const schemas = { products: titled, byCategory: titled }
  const { url, dataset, reader } = await folderShop({ schemas })
  await expect(reader.get('products', 1)).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
    message: expect.stringMatching(
      /at v20260518-01 .* expected title: .*; found \{id: number, mark: number\} \(definition test\)/,
    ),
  })
  for (let id = 2; id <= 10; id++)
    await expect(reader.get('products', id)).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' })
  await expect(reader.list('byCategory', 'c1')).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' })
  // What was no answer is not counted as one too.
  expect(reader.counters).toMatchObject({ reads: 0, errors: 11 })
  const declared = kept(await open(url, dataset.name, { shapes: { products: 'other' } }))
  await expect(declared.has('products', 1)).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
    details: { declared: 'other', found: 'test', tag: 'v20260518-01' },
  })
  const typed = kept(await open(url, dataset.name, { schemas: { products: z.object({ mark: z.number() }) } }))
  expect((await typed.get('products', 1))?.mark).toBe(1)
})

test('numbers that a double cannot hold come whole through a parser of the caller', async () => {
  const { url, store, dataset } = await testStore('folder')
  kept(store)
  await dataset.publish({ big: { kind: 'unique', entries: [['1', 1]] } })
  const reader = kept(await open(url, dataset.name, { parse: (text, index) => `${index}:${text}` }))
  expect(await reader.get('big', 1)).toBe('big:1')
})

test('many readers of one cold page fetch it once, and a warm get is one read of one block', async () => {
  const { dataset, connect } = await folderShop()
  const watched = breakable(await connect())
  const reader = kept(await openReader([watched.store], dataset.name))
  const before = watched.calls.read ?? 0
  await Promise.all(Array.from({ length: 50 }, () => reader.get('products', 7)))
  // One for the page, one for each get's block.
  expect((watched.calls.read ?? 0) - before).toBe(51)
  await reader.get('products', 7)
  expect((watched.calls.read ?? 0) - before).toBe(52)
  await reader.getMany('products', [7, 7, 7])
  expect((watched.calls.read ?? 0) - before).toBe(53)
})

test('a flip fetches the pages that changed among those cached, and shares all others', async () => {
  const { dataset, connect, version } = await folderShop()
  const watched = breakable(await connect())
  const reader = kept(await openReader([watched.store], dataset.name))
  await reader.getMany(
    'products',
    Array.from({ length: 1500 }, (_, id) => id),
  )
  const pages = reader.counters.pageReads as number
  // Three roots, four pages below one of them.
  expect(pages).toBe(7)
  const changed = shop(1)
  changed.products = {
    ...(changed.products as (typeof changed)[string]),
    entries: (changed.products?.entries ?? []).map(([key, value]) => [key, key === '7' ? { id: 7, mark: 2 } : value]),
  }
  const next = await dataset.publish(changed, version)
  await expect.poll(() => reader.version.tag, { interval: 5 }).toBe(next.ref.tag)
  // The node above the changed page, and that page; before anybody asked for it.
  expect(reader.counters.pageReads).toBe(pages + 2)
  expect(await reader.get('products', 7)).toEqual({ id: 7, mark: 2 })
  expect(reader.counters.pageReads).toBe(pages + 2)
})

test('a page cache smaller than a page is slow, not wrong', async () => {
  const { reader } = await folderShop({ pageCacheBytesMax: 0 })
  const ids = Array.from({ length: 1500 }, (_, id) => id)
  expect(await reader.getMany('products', ids)).toEqual(ids.map((id) => ({ id, mark: 1 })))
  expect(await reader.get('products', 7)).toEqual({ id: 7, mark: 1 })
})

test('cached blocks answer without the store, and bytes handed out are the caller’s own', async () => {
  const { reader } = await folderShop({ blockCacheBytesMax: 1 << 20 })
  const bytes = await reader.getBytes('products', 7)
  bytes?.fill(0)
  expect(await reader.getEntry('products', 7)).toMatchObject({ value: { id: 7, mark: 1 }, source: 'memory' })
})

test('a closed reader, and its pins, say so', async () => {
  const { reader } = await folderShop()
  const pin = await reader.pin()
  await reader.close()
  await expect(reader.get('products', 1)).rejects.toMatchObject({ code: 'READER_CLOSED' })
  await expect(reader.pin()).rejects.toMatchObject({ code: 'READER_CLOSED' })
  await expect(pin.get('products', 1)).rejects.toMatchObject({ code: 'READER_CLOSED' })
})

test('whoever closes a reader waits until it is closed, also when another has begun to', async () => {
  const { store, dataset } = await testStore('folder')
  await dataset.publish(shop(1))
  const watched = breakable(store)
  let isClosed = false
  watched.store.close = async () => {
    await store.close()
    isClosed = true
  }
  const reader = await openReader([watched.store], dataset.name)
  const both = [reader.close(), reader.close()]
  await both[1]
  expect(isClosed).toBe(true)
  await both[0]
})
