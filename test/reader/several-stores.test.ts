import { expect, test } from 'vitest'
import type { Pointer } from '../../schemas/pointer.ts'
import { atLeast, maxStale, type ReaderOptions } from '../../src/index.ts'
import { openReader } from '../../src/reader/open.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { openStore } from '../../src/stores/open.ts'
import { type Breakable, breakable } from './breakable-store.ts'
import { kept } from './closing.ts'
import { type BuiltVersion, TestDataset } from './dataset.ts'
import { shop } from './shop.ts'
import { testStore } from './stores.ts'

const LAG_MS = 200

/** A dataset in two stores. The reader prefers the first, where it has seen the second version at epoch 2. */
async function twoStores(spareHas: SpareState, options: ReaderOptions = {}) {
  const preferred = await testStore('redis')
  const { url } = await testStore('folder')
  kept(preferred.store)
  const { name } = preferred.dataset
  const spare = new TestDataset(name, kept(await openStore(url, { dataset: name })))
  const first = await preferred.dataset.publish(shop(1))
  await spares[spareHas](spare)
  const before = (await preferred.store.pointer.read())?.pointer as Pointer
  const second = await preferred.dataset.publish(shop(2), first)
  if (spareHas === 'the version before, quarantined since')
    await changePointer(
      preferred.store.pointer,
      { kind: 'quarantine', tag: first.ref.tag },
      { dataset: preferred.dataset.name },
    )
  const stores = [breakable(await preferred.connect()), breakable(await openStore(url, { dataset: name }))] as const
  const reader = kept(
    await openReader(
      stores.map(({ store }) => store),
      name,
      { followLagMs: LAG_MS, waitMs: 500, ...options },
    ),
  )
  expect(reader.version).toEqual(second.ref)
  return { preferred: preferred.dataset, spare, reader, stores, first, second, before, connect: preferred.connect, url }
}

const spares = {
  'the same epoch': async (spare: TestDataset) => {
    await spare.publish(shop(2), await spare.publish(shop(1)))
  },
  'the version, not yet flipped to': async (spare: TestDataset) => {
    await spare.build(shop(2), await spare.publish(shop(1)))
  },
  'the version, retired there': async (spare: TestDataset) => {
    await spare.retire(await spare.build(shop(2), await spare.publish(shop(1))))
  },
  'the version, quarantined there': async (spare: TestDataset) => {
    const { ref } = await spare.build(shop(2), await spare.publish(shop(1)))
    await changePointer(spare.store.pointer, { kind: 'quarantine', tag: ref.tag }, { dataset: spare.name })
  },
  'another version by that tag': async (spare: TestDataset) => {
    await spare.build(shop(9), await spare.publish(shop(1)))
  },
  'the version before': async (spare: TestDataset) => {
    await spare.publish(shop(1))
  },
  'the version before, quarantined since': async (spare: TestDataset) => {
    await spare.publish(shop(1))
  },
  nothing: async () => {},
}
type SpareState = keyof typeof spares

interface Faults {
  preferred: TestDataset
  stores: readonly [Breakable, Breakable]
  second: BuiltVersion
  before: Pointer
}
const deleteSecond = async ({ preferred, second }: Faults) => {
  await preferred.store.data.deleteManifest(second.ref.tag)
  await preferred.store.data.deleteGeneration(second.manifest.generation)
}
const putBack = async ({ preferred, before }: Pick<Faults, 'preferred' | 'before'>) => {
  const { pointer } = preferred.store
  await pointer.swap((await pointer.read())?.token ?? null, before)
}
const faults = {
  'does not answer': async ({ stores }: Faults) => {
    stores[0].down = true
  },
  'does not answer for its pointer': async ({ stores }: Faults) => {
    stores[0].down = 'pointer'
  },
  'does not answer for its data': async ({ stores }: Faults) => {
    stores[0].down = 'data'
  },
  'lost its pointer': async ({ stores }: Faults) => {
    stores[0].store.pointer.read = async () => null
  },
  'went back to epoch 1': putBack,
  'went on to a version that it lacks': async ({ preferred, second }: Faults) => {
    const third = await preferred.build(shop(3), second)
    await preferred.store.data.deleteManifest(third.ref.tag)
    await preferred.flip(third)
  },
  'lost the version': deleteSecond,
  'went back to epoch 1 and lost the version': async (faulty: Faults) => {
    await putBack(faulty)
    await deleteSecond(faulty)
  },
}
type Fault = keyof typeof faults

interface Answer {
  mark: 1 | 2
  by: 'preferred' | 'spare'
  stale: boolean
}
const fresh = (by: Answer['by']): Answer => ({ mark: 2, by, stale: false })
const stale = (mark: 1 | 2, by: Answer['by']): Answer => ({ mark, by, stale: true })

/** What reads come to, by what befell the preferred store and what the spare one has. */
const transitions: Array<[fault: Fault, spare: SpareState, answer: Answer | 'STORE_UNREACHABLE' | 'CORRUPT']> = [
  ['does not answer', 'the same epoch', fresh('spare')],
  ['does not answer', 'the version, not yet flipped to', stale(2, 'spare')],
  ['does not answer', 'the version, retired there', stale(1, 'spare')],
  ['does not answer', 'the version, quarantined there', stale(1, 'spare')],
  ['does not answer', 'another version by that tag', stale(1, 'spare')],
  ['does not answer', 'the version before', stale(1, 'spare')],
  ['does not answer', 'the version before, quarantined since', 'STORE_UNREACHABLE'],
  ['does not answer', 'nothing', 'STORE_UNREACHABLE'],
  ['does not answer for its pointer', 'the same epoch', fresh('spare')],
  ['does not answer for its pointer', 'the version, not yet flipped to', stale(2, 'spare')],
  ['does not answer for its pointer', 'the version before', stale(2, 'preferred')],
  ['does not answer for its pointer', 'nothing', stale(2, 'preferred')],
  ['does not answer for its data', 'the same epoch', fresh('spare')],
  ['does not answer for its data', 'the version, not yet flipped to', stale(2, 'spare')],
  ['does not answer for its data', 'the version before', 'STORE_UNREACHABLE'],
  ['lost its pointer', 'the same epoch', fresh('spare')],
  ['lost its pointer', 'the version, not yet flipped to', stale(2, 'preferred')],
  ['lost its pointer', 'the version before', stale(2, 'preferred')],
  ['went back to epoch 1', 'the same epoch', fresh('spare')],
  ['went back to epoch 1', 'the version, not yet flipped to', stale(2, 'preferred')],
  ['went back to epoch 1', 'the version before', stale(2, 'preferred')],
  // Epoch 3 was seen: who names the second version at epoch 2 confirms nothing.
  ['went on to a version that it lacks', 'the same epoch', stale(2, 'preferred')],
  ['went on to a version that it lacks', 'nothing', stale(2, 'preferred')],
  ['lost the version', 'the same epoch', fresh('spare')],
  ['lost the version', 'the version, not yet flipped to', stale(2, 'spare')],
  ['lost the version', 'the version before', stale(1, 'spare')],
  ['lost the version', 'nothing', 'CORRUPT'],
  ['went back to epoch 1 and lost the version', 'the same epoch', fresh('spare')],
  ['went back to epoch 1 and lost the version', 'the version, not yet flipped to', stale(2, 'spare')],
  ['went back to epoch 1 and lost the version', 'the version before', stale(1, 'preferred')],
  ['went back to epoch 1 and lost the version', 'nothing', stale(1, 'preferred')],
]

test.each(transitions)('the preferred store %s, the spare one has %s: %o', async (fault, spareHas, expected) => {
  const faulty = await twoStores(spareHas)
  const { reader, preferred, spare } = faulty
  await faults[fault](faulty)
  /** Whatever state the reader is in: what is below the epoch it has seen comes with a mark, or not at all. */
  const answer = async (options = {}) => {
    const entry = await reader.getEntry('products', 1, options)
    const { mark } = entry.value as { mark: 1 | 2 }
    if (mark === 1) expect(entry).toMatchObject({ stale: true, ageMs: Number.POSITIVE_INFINITY })
    return { mark, by: entry.store === preferred.store.url ? 'preferred' : 'spare', stale: entry.stale }
  }
  const codeOf = (error: { code: string }) => error.code
  await expect.poll(() => answer().catch(codeOf), { timeout: 10_000, interval: 10 }).toEqual(expected)
  if (typeof expected === 'string') return
  // The reader's own properties say the same.
  expect(reader.version.ordinal).toBe(expected.mark)
  await expect.poll(() => reader.stale, { timeout: 5000, interval: 10 }).toBe(expected.stale)
  const confirmed = await answer({ fresh: maxStale(0) }).catch(codeOf)
  expect(confirmed).toEqual(expected.stale ? 'READER_STALE' : expected)
  const enough = faulty[expected.mark === 2 ? 'second' : 'first'].ref.tag
  const reached = await answer({ fresh: atLeast(enough) }).catch(codeOf)
  expect(reached).toEqual(expected.mark === 2 ? expected : 'READER_STALE')
  // What comes next in any store is followed; there the reader is confirmed again.
  const recovered = expected.by === 'spare' ? spare : preferred
  if (recovered === preferred) {
    faulty.stores[0].down = false
    if (fault === 'lost its pointer') return
  }
  await recovered.flip(await recovered.build(shop(3)))
  await expect
    .poll(() => reader.getEntry('products', 1).catch(codeOf), { timeout: 15_000, interval: 10 })
    .toMatchObject({ value: { mark: 3 }, stale: false })
})
test('a reader that declared so gets an error, not a version behind what it has seen', async () => {
  const { reader, stores } = await twoStores('the version before', { onStale: 'error', staleAfterMs: 60_000 })
  stores[0].down = true
  await expect(reader.get('products', 1)).rejects.toMatchObject({ code: 'READER_STALE' })
  await expect(reader.pin()).rejects.toMatchObject({ code: 'READER_STALE' })
})

test('a pin is taken in the next store while the first is down', async () => {
  const { reader, stores, spare } = await twoStores('the same epoch', { followLagMs: 60_000 })
  stores[0].down = true
  await using pin = await reader.pin()
  expect(pin.protected).toBe(true)
  expect(await pin.get('products', 1)).toEqual({ id: 1, mark: 2 })
  expect(await spare.store.leases.list()).toHaveLength(1)
})

test('an answer from behind says so, also when the reader has come back before it is there', async () => {
  const { reader, stores } = await twoStores('the version before')
  stores[0].down = true
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
  const { data } = stores[1].store
  const read = data.read
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  data.read = async (locations) => {
    await released
    return read(locations)
  }
  const answering = reader.getEntry('products', 7)
  stores[0].down = false
  await expect.poll(() => reader.stale, { timeout: 10_000, interval: 10 }).toBe(false)
  release()
  expect(await answering).toMatchObject({ value: { mark: 1 }, stale: true, ageMs: Number.POSITIVE_INFINITY })
})

test('a reader behind what it has seen goes on with the store it is in, never to a version that was quarantined', async () => {
  const { preferred, spare, reader, stores, second } = await twoStores('the version before')
  const bad = await preferred.publish(shop(8), second)
  await preferred.flip(second)
  await changePointer(preferred.store.pointer, { kind: 'quarantine', tag: bad.ref.tag }, { dataset: preferred.name })
  await preferred.flip(await preferred.build(shop(9), second))
  await expect.poll(() => reader.version.ordinal, { timeout: 5000, interval: 10 }).toBe(4)
  stores[0].down = true
  const markOf = async () => (await reader.getEntry('products', 1)).value
  expect(await markOf()).toEqual({ id: 1, mark: 1 })
  const behind = (await spare.pointer()) as Pointer
  await spare.publish(shop(2))
  await expect.poll(markOf, { timeout: 10_000, interval: 10 }).toEqual({ id: 1, mark: 2 })
  const staysAtTwo = async () => {
    const lower = reader.counters.lowerEpochs as number
    await expect.poll(() => reader.counters.lowerEpochs, { timeout: 10_000, interval: 10 }).toBeGreaterThan(lower + 1)
    expect(await markOf()).toEqual({ id: 1, mark: 2 })
  }
  await putBack({ preferred: spare, before: behind })
  await staysAtTwo()
  await spare.publish(shop(8))
  await staysAtTwo()
  expect(reader.stale).toBe(true)
})

test('a store that was slow to open is not come back to when a later flip was followed meanwhile', async () => {
  const { spare, reader, stores } = await twoStores('the same epoch')
  stores[0].down = true
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 2 })
  const { data } = stores[0].store
  const { readManifest } = data
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  const { promise: opening, resolve: tellOpening } = Promise.withResolvers<void>()
  data.readManifest = async (tag) => {
    tellOpening()
    await released
    return readManifest(tag)
  }
  stores[0].down = false
  await opening
  await spare.publish(shop(3))
  expect(await reader.get('products', 1, { fresh: maxStale(0) })).toEqual({ id: 1, mark: 3 })
  const asked = stores[1].calls.pointer ?? 0
  release()
  await expect.poll(() => stores[1].calls.pointer, { timeout: 5000, interval: 10 }).toBeGreaterThan(asked + 1)
  expect(reader.version.ordinal).toBe(3)
  expect(reader.counters.flips).toBe(2)
})

test('an epoch that was read in another store stands, though its version cannot be had there', async () => {
  const { preferred, spare, reader, stores, second } = await twoStores('the version before')
  await spare.publish(shop(9))
  const third = await spare.build(shop(3))
  await spare.store.data.deleteManifest(third.ref.tag)
  await spare.flip(third)
  stores[0].down = 'pointer'
  // It was asked when the other store did not answer, and could not give what it named.
  await expect.poll(() => stores[1].calls.readManifest, { timeout: 5000, interval: 10 }).toBeGreaterThan(0)
  stores[0].down = false
  const asked = stores[0].calls.pointer ?? 0
  await expect.poll(() => stores[0].calls.pointer, { timeout: 10_000, interval: 10 }).toBeGreaterThan(asked + 1)
  await expect.poll(() => reader.stale, { timeout: 5000, interval: 10 }).toBe(true)
  await expect.poll(() => stores[0].calls.pointer, { timeout: 10_000, interval: 10 }).toBeGreaterThan(asked + 3)
  expect(await reader.getEntry('products', 1)).toMatchObject({ value: { mark: 2 }, stale: true })
  await preferred.flip(await preferred.publish(shop(3), second))
  await expect
    .poll(() => reader.getEntry('products', 1), { timeout: 10_000, interval: 10 })
    .toMatchObject({ value: { mark: 3 }, stale: false })
})

test('a reader that is opened on a store that cannot give its version begins behind it, with a mark', async () => {
  const faulty = await twoStores('the version before')
  await deleteSecond(faulty)
  const { preferred, connect, url } = faulty
  const both = [await connect(), await openStore(url, { dataset: preferred.name })]
  const reader = kept(await openReader(both, preferred.name, { followLagMs: LAG_MS }))
  expect(await reader.getEntry('products', 1)).toMatchObject({ value: { mark: 1 }, stale: true })
  await preferred.publish(shop(3))
  await expect
    .poll(() => reader.getEntry('products', 1), { timeout: 10_000, interval: 10 })
    .toMatchObject({ value: { mark: 3 }, stale: false })
})

test('of several stores the first serves; the next one does while it is down, and the first again afterwards', async () => {
  const preferred = await testStore('redis')
  const spare = await testStore('folder')
  kept(preferred.store)
  kept(spare.store)
  const name = preferred.dataset.name
  const spareStore = await openStore(spare.url, { dataset: name })
  const spareDataset = new TestDataset(name, spareStore)
  await preferred.dataset.publish(shop(1))
  await spareDataset.publish(shop(1))
  const first = breakable(await preferred.connect())
  const reader = kept(await openReader([first.store, spareStore], name, { followLagMs: 200 }))
  expect(reader.store).toBe(preferred.store.url)
  first.down = true
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
  expect(reader.store).toBe(spareStore.url)
  await spareDataset.publish(shop(2))
  await expect.poll(() => reader.version.ordinal, { timeout: 5000, interval: 10 }).toBe(2)
  // The first is back, but behind: what was seen is not unseen.
  first.down = false
  const asked = first.calls.pointer ?? 0
  await expect.poll(() => first.calls.pointer, { timeout: 10_000, interval: 10 }).toBeGreaterThan(asked + 1)
  expect(reader.store).toBe(spareStore.url)
  await preferred.dataset.publish(shop(2))
  await expect.poll(() => reader.store, { timeout: 10_000 }).toBe(preferred.store.url)
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 2 })
})

test('a store whose version is damaged is left for the next one', async () => {
  const preferred = await testStore('redis')
  const spare = await testStore('folder')
  kept(preferred.store)
  kept(spare.store)
  const name = preferred.dataset.name
  const spareStore = await openStore(spare.url, { dataset: name })
  const version = await preferred.dataset.publish(shop(1))
  await new TestDataset(name, spareStore).publish(shop(1))
  const reader = kept(await openReader([await preferred.connect(), spareStore], name))
  await preferred.store.data.deleteGeneration(version.manifest.generation)
  expect(await reader.get('products', 1)).toEqual({ id: 1, mark: 1 })
  expect(reader.store).toBe(spareStore.url)
})

test('what a version lacks is its fault also where another store answers with it', async () => {
  const { preferred, spare, reader, stores } = await twoStores('the same epoch', { reportMs: 0 })
  const { prices: _, ...without } = shop(3)
  await spare.publish(without)
  await preferred.publish(without)
  await expect.poll(() => reader.version.ordinal, { timeout: 10_000 }).toBe(3)
  stores[0].down = true
  await expect.poll(() => reader.store, { timeout: 10_000 }).toBe(spare.store.url)
  await expect(reader.get('prices', ['de', '7'])).rejects.toMatchObject({ code: 'UNKNOWN_INDEX' })
  expect(reader.counters).toMatchObject({ errors: 1 })
})
