import { expect, test } from 'vitest'
import type { Location } from '../../schemas/manifest.ts'
import { READER_FORMAT } from '../../schemas/manifest.ts'
import { openReader } from '../../src/reader/open.ts'
import { encodeManifest, manifestHash } from '../../src/snapshot/manifest.ts'
import { sameObject } from '../../src/snapshot/tree.ts'
import type { Store } from '../../src/stores/ports.ts'
import { kept } from './closing.ts'
import { shop } from './shop.ts'
import { testStore } from './stores.ts'

type Damage = (stored: Uint8Array) => Uint8Array | null
const damages: Array<[name: string, damage: Damage]> = [
  ['flipped bit', (stored) => Uint8Array.from(stored, (byte, at) => (at === stored.length >> 1 ? byte ^ 1 : byte))],
  ['cut', (stored) => stored.subarray(0, stored.length - 1)],
  ['missing', () => null],
]

/** A store that returns one object damaged: `hits` says which. */
function damaging(store: Store, hits: (location: Location) => boolean, damage: Damage): Store {
  const data: Store['data'] = Object.create(store.data)
  data.read = async (locations) => {
    const stored = await store.data.read(locations)
    return stored.map((bytes, at) => (bytes !== null && hits(locations[at] as Location) ? damage(bytes) : bytes))
  }
  // Methods of a class with private fields need their own object.
  data.readManifest = (tag) => store.data.readManifest(tag)
  return { ...store, data }
}

async function damagedShop(which: 'block' | 'page' | 'node', damage: Damage) {
  const { store, dataset, connect } = await testStore('folder')
  kept(store)
  const { manifest } = await dataset.publish(shop(1))
  const root = manifest.indexes.products?.location as Location
  const isRoot = (location: Location) => sameObject(location, root)
  // Of products only the node is a root; a page is what is read next, and a block what comes after that.
  let reads = 0
  const roots = Object.values(manifest.indexes).map((index) => index.location)
  const hits = (location: Location) => {
    if (which === 'node') return isRoot(location)
    if (roots.some((other) => sameObject(other, location))) return false
    reads++
    return which === 'page' ? reads === 1 : reads === 2
  }
  return { dataset, store: damaging(await connect(), hits, damage) }
}

test.each(damages)('a %s block is named, with its index and version', async (_, damage) => {
  const { store, dataset } = await damagedShop('block', damage)
  const reader = kept(await openReader([store], dataset.name))
  const failure = await reader.getEntry('products', 7).catch((error) => error)
  expect(failure).toMatchObject({
    code: 'CORRUPT',
    details: { dataset: dataset.name, index: 'products', tag: 'v20260518-01' },
  })
  expect(failure.message).toMatch(/^block \d+ of index products of v20260518-01 in /)
})

test.each(damages)('a %s page is named, with its index and version', async (_, damage) => {
  const { store, dataset } = await damagedShop('page', damage)
  const reader = kept(await openReader([store], dataset.name))
  const failure = await reader.getMany('products', [7]).catch((error) => error)
  expect(failure).toMatchObject({
    code: 'CORRUPT',
    details: { dataset: dataset.name, index: 'products', tag: 'v20260518-01' },
  })
  expect(failure.message).toMatch(/^location page at block \d+ of index products of v20260518-01 in /)
})

test.each(damages)('a %s node is named, with its index and version', async (_, damage) => {
  const { store, dataset } = await damagedShop('node', damage)
  const failure = await openReader([store], dataset.name, { start: 'fail' }).catch((error) => error)
  await store.close()
  expect(failure).toMatchObject({ code: 'CORRUPT' })
  expect(failure.message).toMatch(/^location node at block 0, level 1 of index products of v20260518-01 in /)
})

test.each(damages)('a %s manifest is named', async (_, damage) => {
  const { store, dataset, connect } = await testStore('folder')
  kept(store)
  await dataset.publish(shop(1))
  const real = await connect()
  const data: Store['data'] = Object.create(real.data)
  data.readManifest = async (tag) => damage((await real.data.readManifest(tag)) as Uint8Array)
  const failure = await openReader([{ ...real, data }], dataset.name, { start: 'fail' }).catch((error) => error)
  await real.close()
  expect(failure).toMatchObject({ code: 'CORRUPT', details: { object: 'manifest', tag: 'v20260518-01' } })
})

test('a version that needs a newer reader is refused before anything of it is read; the reader stays where it is', async () => {
  const { store, dataset, connect } = await testStore('folder')
  kept(store)
  const first = await dataset.publish(shop(1))
  const reader = kept(await openReader([await connect()], dataset.name, { followLagMs: 100 }))
  const errors: unknown[] = []
  reader.on('error', (error) => errors.push(error))
  const tag = 'v20260518-77'
  const bytes = encodeManifest({
    ...first.manifest,
    tag,
    ordinal: 77,
    minReader: READER_FORMAT + 1,
    digest: '0'.repeat(64),
  })
  await store.data.putManifest(tag, bytes)
  const ref = { tag, ordinal: 77, digest: '0'.repeat(64), manifest: manifestHash(bytes) }
  await dataset.flip({ ...first, ref })
  await expect.poll(() => errors[0], { timeout: 5000, interval: 10 }).toMatchObject({ code: 'FORMAT_TOO_NEW' })
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
  await expect(openReader([await connect()], dataset.name, { start: 'fail' })).rejects.toMatchObject({
    code: 'FORMAT_TOO_NEW',
  })
})
