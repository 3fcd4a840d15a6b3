import { afterEach, describe, expect, test } from 'vitest'
import { maxStale, open } from '../../src/index.ts'
import type { Content } from './dataset.ts'
import { storeKinds, testStore } from './stores.ts'

const closing: Array<() => Promise<void>> = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})
function kept<R extends { close(): Promise<void> }>(reader: R): R {
  closing.push(() => reader.close())
  return reader
}

/** 1500 products in 2^10 blocks, which are four pages below one node. */
function shop(mark: number, changed = 1500): Content {
  const ids = Array.from({ length: 1500 }, (_, id) => id)
  const markOf = (id: number) => (id < changed ? mark : 1)
  return {
    products: { kind: 'unique', bits: 10, entries: ids.map((id) => [`${id}`, { id, mark: markOf(id) }] as const) },
    byCategory: {
      kind: 'many',
      entries: ids.slice(0, 60).map((id) => [`c${id % 7}`, { id, mark }] as const),
    },
    prices: { kind: 'unique', keyParts: 2, entries: [[['de', '7'], mark * 100] as const] },
  }
}

describe.each(storeKinds)('a reader of a %s store', (kind) => {
  test('answers get, getMany, list and has from the active version', async () => {
    const { url, store, dataset } = await testStore(kind)
    closing.push(() => store.close())
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

  test('follows a flip within its follow lag, and a flip back', async () => {
    const { url, store, dataset } = await testStore(kind)
    closing.push(() => store.close())
    const first = await dataset.publish(shop(1))
    const reader = kept(await open(url, dataset.name))
    expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
    const second = await dataset.publish(shop(2, 10), first)
    const flipped = performance.now()
    await expect.poll(() => reader.version.tag, { timeout: 5000, interval: 5 }).toBe(second.ref.tag)
    expect(performance.now() - flipped).toBeLessThan(1000)
    expect(await reader.getMany('products', [1, 9, 10])).toEqual([
      { id: 1, mark: 2 },
      { id: 9, mark: 2 },
      { id: 10, mark: 1 },
    ])
    await dataset.flip(first)
    expect(await reader.get('products', 1, { fresh: maxStale(0) })).toEqual({ id: 1, mark: 1 })
  })
})
