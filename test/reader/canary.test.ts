import { expect, test } from 'vitest'
import { bakePolicySchema } from '../../schemas/watch.ts'
import { judgeBake } from '../../src/core/bake-judgement.ts'
import { LOOKS } from '../../src/core/looks.ts'
import { countsOf } from '../../src/core/reader-comparison.ts'
import { atLeast, maxStale } from '../../src/index.ts'
import { openReader } from '../../src/reader/open.ts'
import { isOnCandidateSide } from '../../src/reader/side.ts'
import { breakable } from './breakable-store.ts'
import { kept } from './closing.ts'
import { shop } from './shop.ts'
import { type StoreKind, storeKinds, testStore } from './stores.ts'

const users = Array.from({ length: 100 }, (_, n) => `user-${n}`)
const sideOf = (share: number) => (user: string) => isOnCandidateSide(user, { salt: 'salt', share })
const candidateUser = users.find(sideOf(0.5)) as string
const activeUser = users.find((user) => !sideOf(0.9)(user)) as string

/** A dataset at v1 with v2 built upon it, and a reader. */
async function twoVersions(kind: StoreKind = 'redis', options = {}) {
  const { store, dataset, connect } = await testStore(kind)
  kept(store)
  const first = await dataset.publish(shop(1))
  const second = await dataset.build(shop(2), first)
  const broken = breakable(await connect())
  const reader = kept(
    await openReader([broken.store], dataset.name, { followLagMs: 200, waitMs: 1500, reportMs: 100, ...options }),
  )
  const ordinalOf = async (user: string) =>
    (await reader.getEntry('products', 1, { for: user, fresh: maxStale(0) })).version.ordinal
  const onBoth = () => expect.poll(() => ordinalOf(candidateUser), { timeout: 10_000 }).toBe(2)
  return { store, dataset, first, second, reader, broken, connect, ordinalOf, onBoth }
}

test('requests and readers stay on their side of a canary; a larger share only brings more over', async () => {
  const { dataset, second, reader, onBoth, ordinalOf, connect } = await twoVersions()
  const canaryId = await dataset.canary(second, 0.5)
  await onBoth()
  const sides = async (share: number) => {
    for (const user of users) {
      const { value, version } = await reader.getEntry('products', 1, { for: user })
      const ordinal = sideOf(share)(user) ? 2 : 1
      expect({ user, value, ordinal: version.ordinal }).toEqual({ user, value: { id: 1, mark: ordinal }, ordinal })
    }
  }
  await sides(0.5)
  for (const [key, ordinal] of [
    [candidateUser, 2],
    [activeUser, 1],
  ] as const) {
    const own = kept(await openReader([await connect()], dataset.name, { key }))
    await expect.poll(() => own.version.ordinal, { timeout: 10_000 }).toBe(ordinal)
    expect(await own.getMany('products', [1, 2, 3])).toEqual([1, 2, 3].map((id) => ({ id, mark: ordinal })))
    await using pin = await own.pin()
    expect(pin.version.ordinal).toBe(ordinal)
  }
  await dataset.change({ kind: 'ramp', canaryId, share: 0.9 })
  await expect.poll(() => ordinalOf(users.find((user) => sideOf(0.9)(user) && !sideOf(0.5)(user)) as string)).toBe(2)
  await sides(0.9)
})

test('when a canary ends its readers are back at once, and on the candidate when that is flipped to', async () => {
  const { dataset, first, second, ordinalOf, onBoth, reader } = await twoVersions()
  const canaryId = await dataset.canary(second, 0.5)
  await onBoth()
  await dataset.change({ kind: 'endCanary', canaryId })
  expect([await ordinalOf(candidateUser), await ordinalOf(activeUser)]).toEqual([1, 1])
  await dataset.canary(second, 0.5)
  await onBoth()
  expect(await ordinalOf(activeUser)).toBe(1)
  await dataset.flip(second)
  expect([await ordinalOf(candidateUser), await ordinalOf(activeUser)]).toEqual([2, 2])
  expect(reader.counters).toMatchObject({ flips: 2, candidateFallbacks: 0 })
  await dataset.flip(first)
  expect(await ordinalOf(candidateUser)).toBe(1)
})

test('atLeast the candidate is answered on its side, and waits for the flip on the other', async () => {
  const { dataset, second, reader, onBoth } = await twoVersions()
  await dataset.canary(second, 0.5)
  await onBoth()
  const fresh = atLeast(second.ref.tag)
  expect(await reader.get('products', 1, { for: candidateUser, fresh })).toMatchObject({ mark: 2 })
  await expect(reader.get('products', 1, { for: activeUser, fresh })).rejects.toMatchObject({ code: 'READER_STALE' })
  const waiting = reader.get('products', 1, { for: activeUser, fresh })
  await dataset.flip(second)
  expect(await waiting).toMatchObject({ mark: 2 })
})

test('a pin of a reader on the candidate’s side is on the active version when the candidate was given up meanwhile', async () => {
  const { dataset, second, connect } = await twoVersions()
  const canaryId = await dataset.canary(second, 0.5)
  const deaf = breakable(await connect())
  deaf.deaf = true
  const reader = kept(await openReader([deaf.store], dataset.name, { key: candidateUser, followLagMs: 60_000 }))
  await expect.poll(() => reader.version.ordinal, { timeout: 10_000 }).toBe(2)
  await dataset.change({ kind: 'endCanary', canaryId })
  await dataset.retire(second)
  expect(await dataset.sweep(second)).toBe(true)
  await using pin = await reader.pin()
  expect(await pin.get('products', 1)).toEqual({ id: 1, mark: 1 })
})

test('what the candidate cannot answer the active version does, and it counts against the candidate', async () => {
  const { store, dataset, first, second, reader, onBoth } = await twoVersions()
  const { byCategory: _, prices, products } = shop(3)
  const lacking = await dataset.build({ products, prices: { ...prices, keyParts: 1, entries: [] } } as never)
  const canaryId = await dataset.canary(second, 0.5)
  await onBoth()
  await store.data.deleteGeneration(second.manifest.generation)
  // Its pages are cached and its blocks are gone: a missing block is no miss.
  const entry = await reader.getEntry('products', 2, { for: candidateUser })
  expect(entry).toMatchObject({ value: { id: 2, mark: 1 }, version: first.ref })
  await expect(reader.get('products', 2, { for: candidateUser, fresh: atLeast(second.ref) })).rejects.toMatchObject({
    code: 'READER_STALE',
  })
  const { candidateFallbacks = 0, errors = 0 } = reader.counters
  expect([candidateFallbacks >= 2, errors]).toEqual([true, candidateFallbacks])
  const reported = async () => (await store.counters.list(canaryId)).find(({ side }) => side === 'candidate')
  await expect.poll(reported).toMatchObject({ tag: second.ref.tag, errors })

  await dataset.change({ kind: 'endCanary', canaryId })
  const shaped = await dataset.canary(lacking, 0.5)
  await expect.poll(async () => (await reader.getEntry('products', 1, { for: candidateUser })).version.ordinal).toBe(3)
  expect(await reader.get('prices', ['de', '7'], { for: candidateUser })).toBe(100)
  expect(await reader.list('byCategory', 'c60', { for: candidateUser })).toEqual([])
  await expect(reader.get('nosuch', 1, { for: candidateUser })).rejects.toMatchObject({ code: 'UNKNOWN_INDEX' })
  const shapedReport = async () => (await store.counters.list(shaped)).find(({ side }) => side === 'candidate')
  await expect.poll(shapedReport).toMatchObject({ errors: 2 })
})

test('an index that the version before had and the active one lacks is the active one’s fault; any other was asked for wrongly', async () => {
  const { store, dataset, reader, connect } = await twoVersions()
  const other = kept(await openReader([await connect()], dataset.name, { followLagMs: 200, reportMs: 100 }))
  const { prices: _, ...without } = shop(3)
  await dataset.publish(without)
  await expect.poll(() => reader.version.ordinal, { timeout: 10_000 }).toBe(3)
  const codeOf = (index: string) => reader.get(index, ['de', '7']).catch((error) => error.code)
  expect([await codeOf('prices'), await codeOf('nosuch')]).toEqual(['UNKNOWN_INDEX', 'UNKNOWN_INDEX'])
  await using pin = await reader.pin()
  await expect(pin.get('prices', ['de', '7'])).rejects.toMatchObject({ code: 'UNKNOWN_INDEX' })
  expect(reader.counters).toMatchObject({ reads: 0, errors: 2 })
  const { flipId } = (await dataset.pointer()) ?? {}
  // Two readers' word is enough for a bake.
  await expect.poll(() => other.version.ordinal, { timeout: 10_000 }).toBe(3)
  for (let n = 0; n < 10; n++)
    for (const each of [reader, other]) await each.get('prices', ['de', '7']).catch(() => undefined)
  const errors = async () => (await store.counters.list(flipId ?? '')).map((report) => report.errors).sort()
  await expect.poll(errors, { timeout: 10_000 }).toEqual([10, 12])
  const now = (await store.counters.list(flipId ?? '')).map((report) => countsOf(report, 100))
  const policy = bakePolicySchema.parse({ minimumReads: 20, minimumReaders: 2 })
  const { beyond } = judgeBake({ now, before: [], drift: null }, policy, LOOKS)
  expect(beyond).toEqual([expect.stringMatching(/beyond its limit in errors/)])
  // Opened by whom it is the first version to, it is as it is.
  const later = kept(await openReader([await connect()], dataset.name, { reportMs: 0 }))
  await expect(later.get('prices', ['de', '7'])).rejects.toMatchObject({ code: 'UNKNOWN_INDEX' })
  expect(later.counters).toMatchObject({ errors: 0 })
})

test('a candidate that cannot be opened leaves readers on the active version, and counts', async () => {
  const { store, dataset, second, ordinalOf } = await twoVersions()
  await store.data.deleteManifest(second.ref.tag)
  const canaryId = await dataset.canary(second, 0.9)
  const errors = async () => (await store.counters.list(canaryId)).find(({ side }) => side === 'candidate')?.errors ?? 0
  await expect.poll(errors, { timeout: 10_000 }).toBeGreaterThan(0)
  expect(await ordinalOf(candidateUser)).toBe(1)
})

test('a reader that cannot refresh the pointer leaves the canary, and comes back to its side', async () => {
  const { dataset, second, reader, broken, onBoth, ordinalOf } = await twoVersions()
  await dataset.canary(second, 0.5)
  await onBoth()
  broken.down = 'pointer'
  await expect.poll(() => reader.stale, { timeout: 5000 }).toBe(true)
  const entry = await reader.getEntry('products', 1, { for: candidateUser })
  expect(entry).toMatchObject({ value: { id: 1, mark: 1 }, stale: true })
  broken.down = false
  await expect.poll(() => ordinalOf(candidateUser), { timeout: 10_000 }).toBe(2)
})

test.each(storeKinds)(
  'readers of a %s store report what they counted on both sides, whole totals each time',
  async (kind) => {
    const { store, dataset, second, reader, onBoth } = await twoVersions(kind)
    await reader.get('products', 1)
    const canaryId = await dataset.canary(second, 0.5)
    await onBoth()
    await reader.getMany('products', [1, 2, 99_999], { for: activeUser })
    await reader.list('byCategory', 'c1', { for: candidateUser })
    await reader.get('prices', ['de', '8'], { for: candidateUser })
    expect(reader.reportBad({ for: candidateUser })).toBe(true)
    expect(reader.reportBad(await reader.getEntry('products', 7, { for: candidateUser }))).toBe(true)
    expect(reader.reportBad({ version: { ...second.ref, tag: 'v20260518-77' } })).toBe(false)
    const sides = async () => {
      const reports = await store.counters.list(canaryId)
      return Object.fromEntries(reports.map((report) => [report.side, report]))
    }
    await expect.poll(async () => (await sides()).candidate, { timeout: 10_000 }).toMatchObject({ bad: 2 })
    const { active, candidate } = await sides()
    expect(active).toMatchObject({ misses: 1, errors: 0, bad: 0 })
    expect(active?.reads).toBeGreaterThanOrEqual(3)
    expect(candidate).toMatchObject({ misses: 1, errors: 0, tag: second.ref.tag, readerId: active?.readerId })
    expect(candidate?.recentKeys.products).toContain('7')
    expect(candidate?.recentKeys.prices).toEqual(['de\x008'])
    const { flipId } = (await dataset.pointer()) ?? {}
    const ofFlip = async () => (await store.counters.list(flipId ?? ''))[0]?.reads ?? 0
    await expect.poll(ofFlip).toBeGreaterThan(active?.reads ?? Number.POSITIVE_INFINITY)
    expect(reader.counters).toMatchObject({ misses: 2, bad: 2, errors: 0 })
  },
)

test('a reader that may not write says so once, and reads on both sides', async () => {
  const { store, dataset, second, broken, onBoth, connect } = await twoVersions()
  broken.readOnly = true
  const refused = breakable(await connect())
  refused.readOnly = true
  const reader = kept(
    await openReader([refused.store], dataset.name, { followLagMs: 200, reportMs: 100, reportKeys: false }),
  )
  const told: unknown[] = []
  reader.on('error', (error) => told.push(error))
  await expect.poll(() => told).toMatchObject([{ code: 'STORE_UNSUITABLE' }])
  const canaryId = await dataset.canary(second, 0.5)
  await onBoth()
  await expect.poll(async () => (await reader.getEntry('products', 1, { for: candidateUser })).version.ordinal).toBe(2)
  expect([refused.calls.counters, told.length]).toEqual([1, 1])
  expect(await store.counters.list(canaryId)).toEqual([])
})

test('a reader told not to name keys names none, and one told to report nothing reports nothing', async () => {
  const { store, dataset, connect } = await twoVersions('redis', { reportKeys: false })
  const { flipId } = (await dataset.pointer()) ?? {}
  await expect.poll(() => store.counters.list(flipId ?? '')).toMatchObject([{ recentKeys: {} }])
  const silent = breakable(await connect())
  const reader = kept(await openReader([silent.store], dataset.name, { reportMs: 0 }))
  await reader.get('products', 1)
  expect((await store.counters.list(flipId ?? '')).length).toBe(1)
  await expect(openReader([silent.store], dataset.name, { reportMs: 5 })).rejects.toMatchObject({ code: 'USAGE' })
  await expect(openReader([silent.store], dataset.name, { key: '' })).rejects.toMatchObject({ code: 'USAGE' })
})

test('an operator’s pin holds readers through flips and canaries until its time, by their own clock', async () => {
  const { dataset, first, second, reader, ordinalOf } = await twoVersions()
  await dataset.flip(second)
  expect(await ordinalOf(activeUser)).toBe(2)
  const until = Date.now() + 3000
  await dataset.change({
    kind: 'pin',
    pin: { version: first.ref, until: new Date(until).toISOString(), by: 'ann', reason: 'audit' },
  })
  expect(await ordinalOf(activeUser)).toBe(1)
  const third = await dataset.publish(shop(3))
  const fourth = await dataset.build(shop(4), third)
  await dataset.canary(fourth, 0.5)
  const seen = new Set<number>()
  while (Date.now() < until - 100) {
    const ordinals = [await ordinalOf(candidateUser), await ordinalOf(activeUser), reader.version.ordinal]
    if (Date.now() < until) for (const ordinal of ordinals) seen.add(ordinal)
  }
  expect([...seen]).toEqual([1])
  await expect.poll(() => ordinalOf(activeUser), { timeout: 10_000 }).toBe(3)
  await expect.poll(() => ordinalOf(candidateUser), { timeout: 10_000 }).toBe(4)

  await dataset.change({
    kind: 'pin',
    pin: { version: first.ref, until: '2999-01-01T00:00:00Z', by: 'ann', reason: 'audit' },
  })
  expect(await ordinalOf(activeUser)).toBe(1)
  await dataset.change({ kind: 'unpin', tag: first.ref.tag, until: '2999-01-01T00:00:00Z' })
  expect(await ordinalOf(activeUser)).toBe(3)
})

test('a version beyond its budget is served with a mark, or refused, as declared, and told of', async () => {
  const { dataset, first, second, reader, broken } = await twoVersions()
  const expired: unknown[] = []
  reader.on('expired', (event) => expired.push(event))
  const at = (agoMs: number) => new Date(Date.now() - agoMs).toISOString()
  const ttl = (budgetMs: number, beyond: 'mark' | 'refuse', agoMs = 0) =>
    dataset.change({
      kind: 'fresh',
      expectedTag: first.ref.tag,
      freshAsOf: { snapshot: '10:20:', at: at(agoMs) },
      ttl: { budgetMs, beyond },
    })
  await ttl(600_000, 'refuse')
  const read = () => reader.getEntry('products', 1, { fresh: maxStale(0) })
  expect(await read()).toMatchObject({ expired: false })
  expect([reader.expired, expired.length]).toEqual([false, 0])

  // Time goes by also where the pointer cannot be read.
  await ttl(1500, 'mark')
  await read()
  expect(reader.expired).toBe(false)
  broken.down = 'pointer'
  await expect.poll(() => reader.expired, { timeout: 10_000 }).toBe(true)
  broken.down = false
  await expect.poll(() => reader.stale, { timeout: 10_000 }).toBe(false)

  await ttl(600_000, 'mark')
  await read()
  expect([reader.expired, expired.length]).toEqual([false, 1])
  expired.length = 0
  await ttl(1, 'mark')
  await expect.poll(async () => (await read()).expired, { timeout: 10_000 }).toBe(true)
  expect(await reader.get('products', 1)).toMatchObject({ mark: 1 })
  await read()
  expect(expired).toMatchObject([{ version: first.ref, budgetMs: 1 }])
  expect([reader.expired, (reader.counters.expiredAnswers ?? 0) > 0]).toEqual([true, true])

  await using pin = await reader.pin()
  await ttl(1, 'refuse')
  const refused = {
    code: 'VERSION_EXPIRED',
    message: expect.stringMatching(/expected at most 1 ms ago .* snapflip status/),
  }
  await expect.poll(() => reader.get('products', 1).catch((error) => error)).toMatchObject(refused)
  await expect(reader.pin()).rejects.toMatchObject(refused)
  await expect(reader.get('products', 1, { fresh: maxStale(0) })).rejects.toMatchObject(refused)
  await expect(reader.get('products', 1, { fresh: atLeast(first.ref) })).rejects.toMatchObject(refused)
  // Who holds a version, and an operator who holds all, know what they do.
  expect(await pin.getEntry('products', 1)).toMatchObject({ value: { mark: 1 }, expired: true })
  await dataset.change({
    kind: 'pin',
    pin: { version: second.ref, until: '2999-01-01T00:00:00Z', by: 'ann', reason: 'audit' },
  })
  expect(await read().catch((error) => error)).toMatchObject({ value: { mark: 2 }, expired: true })
})

test('an answer to an earlier question does not take readers back from what a later one found', async () => {
  const { dataset, first, second, connect } = await twoVersions()
  await dataset.flip(second)
  const own = await connect()
  let release: () => void = () => undefined
  let held: Promise<void> | null = null
  const slow = {
    ...own,
    pointer: {
      swap: own.pointer.swap.bind(own.pointer),
      isBound: () => own.pointer.isBound(),
      rebind: own.pointer.rebind.bind(own.pointer),
      watch: () => undefined,
      async read() {
        const until = held
        held = null
        const found = await own.pointer.read()
        await until
        return found
      },
    },
  }
  const reader = kept(await openReader([slow], dataset.name, { followLagMs: 60_000, reportMs: 0 }))
  held = new Promise((resolve) => (release = resolve))
  const early = reader.get('products', 1, { fresh: maxStale(0) })
  await expect.poll(() => held === null).toBe(true)
  // A pin raises no epoch: nothing but the order of the questions tells which answer is the later one.
  await dataset.change({
    kind: 'pin',
    pin: { version: first.ref, until: '2999-01-01T00:00:00Z', by: 'ann', reason: 'audit' },
  })
  expect(await reader.get('products', 1, { fresh: maxStale(0) })).toMatchObject({ mark: 1 })
  release()
  await early
  expect(reader.version).toEqual(first.ref)
})
