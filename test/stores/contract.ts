import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Location } from '../../schemas/manifest.ts'
import { applyChange, emptyPointer, type PointerChange } from '../../src/core/pointer.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import type { PointerRead, Store } from '../../src/stores/ports.ts'
import { uniqueName } from '../support/services.ts'
import { FaultPlan, faultyStore } from './faults.ts'
import { report } from './reports.ts'
import { flipFrom, newGeneration, tagOf, version } from './versions.ts'

/** Well above a pack of any driver. */
const LARGE_BYTES = 40 << 20

/**
 * What every store keeps, on a real server. `open` opens a dataset of the store under test; each call is another client,
 * as another process would be.
 */
export function storeContract(open: (dataset: string) => Promise<Store>): void {
  const opened: Store[] = []
  const client = async (dataset: string): Promise<Store> => {
    const store = await open(dataset)
    opened.push(store)
    return store
  }
  const newDataset = () => `d${uniqueName()}`
  const newStore = () => client(newDataset())
  const newStores = async (count: number): Promise<Store[]> => {
    const dataset = newDataset()
    return Promise.all(Array.from({ length: count }, () => client(dataset)))
  }
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.close()
  })

  describe('data', () => {
    it('is suitable, and says how many bytes it still takes', async () => {
      const store = await newStore()
      await store.check()
      const free = await store.freeBytes()
      expect(free === null || free > 0).toBe(true)
    })

    it('gives back what was put, in the order asked, to another client too', async () => {
      const [writer, reader] = (await newStores(2)) as [Store, Store]
      const objects = Array.from({ length: 3000 }, (_, n) => randomBytes(1 + ((n * 37) % 700)))
      const locations = await put(writer, objects)
      const order = objects.map((_, n) => n).sort((a, b) => ((a * 7919) % 3001) - ((b * 7919) % 3001))
      const found = await reader.data.read(order.map((n) => locations[n] as Location))
      for (const [at, n] of order.entries()) expect(same(found[at], objects[n])).toBe(true)
      const [single] = await reader.data.read([locations[1234] as Location])
      expect(same(single, objects[1234])).toBe(true)
    })

    it('keeps objects larger than a pack, between small ones', async () => {
      const store = await newStore()
      const objects = [
        randomBytes(10),
        randomBytes(LARGE_BYTES),
        randomBytes(10),
        randomBytes(9 << 20),
        randomBytes(9 << 20),
      ]
      const found = await store.data.read(await put(store, objects))
      for (const [n, object] of objects.entries()) expect(same(found[n], object)).toBe(true)
    })

    it('takes puts that overlap', async () => {
      const store = await newStore()
      const writer = await store.data.begin(newGeneration())
      const batches = Array.from({ length: 40 }, () => [randomBytes(600 << 10), randomBytes(3)])
      const locations = await Promise.all(batches.map((batch) => writer.put(batch)))
      await writer.finish()
      const found = await store.data.read(locations.flat())
      for (const [n, object] of batches.flat().entries()) expect(same(found[n], object)).toBe(true)
    })

    it('reads an empty list as an empty list', async () => {
      expect(await (await newStore()).data.read([])).toEqual([])
    })

    it('answers null for an object that is missing or shorter than its location says, and the others all the same', async () => {
      const store = await newStore()
      const [first, last] = (await put(store, [Buffer.from('first'), Buffer.from('last')])) as [Location, Location]
      const found = await store.data.read([
        { ...first, generation: newGeneration() },
        first,
        { ...last, length: last.length + 1 },
        { ...last, offset: last.offset + 1000 },
        { ...last, pack: 7, offset: last.offset + 2000 },
        last,
      ])
      expect(found.map((bytes) => bytes && Buffer.from(bytes).toString())).toEqual([
        null,
        'first',
        null,
        null,
        null,
        'last',
      ])
    })

    it('journals a generation before its first object', async () => {
      const store = await newStore()
      const generation = newGeneration()
      const before = Date.now()
      await store.data.begin(generation)
      const found = await store.data.generations()
      expect(found.map((entry) => entry.generation)).toEqual([generation])
      // Clocks of servers tell whole seconds.
      expect(Math.abs((found[0]?.begunAt.getTime() ?? 0) - before)).toBeLessThan(10_000)
    })

    it('deletes all that a generation wrote, finished or not, and its journal entry; twice is no error', async () => {
      const store = await newStore()
      const kept = await put(store, [Buffer.from('kept')])
      const generation = newGeneration()
      const writer = await store.data.begin(generation)
      const finished = await writer.put(Array.from({ length: 5000 }, () => randomBytes(20)))
      await writer.finish()
      await writer.put([randomBytes(20)])
      await store.data.deleteGeneration(generation)
      await store.data.deleteGeneration(generation)
      expect((await store.data.read(finished)).every((bytes) => bytes === null)).toBe(true)
      expect((await store.data.generations()).map((entry) => entry.generation)).toEqual([kept[0]?.generation])
      expect(await store.data.read(kept)).not.toContain(null)
    })

    it('tells a writer whose generation was swept, and keeps nothing it wrote after', async () => {
      const [store, sweeper] = (await newStores(2)) as [Store, Store]
      const generation = newGeneration()
      const writer = await store.data.begin(generation)
      const early = await writer.put([Buffer.from('early')])
      await sweeper.data.deleteGeneration(generation)
      const late = await writer.put([Buffer.from('late')])
      await expect(writer.finish()).rejects.toMatchObject({ code: 'CONFLICT' })
      expect(await sweeper.data.read([...early, ...late])).toEqual([null, null])
      expect(await sweeper.data.generations()).toEqual([])
    })

    it('takes nothing of a writer whose generation was swept before it put anything', async () => {
      const [store, sweeper] = (await newStores(2)) as [Store, Store]
      const generation = newGeneration()
      const writer = await store.data.begin(generation)
      await sweeper.data.deleteGeneration(generation)
      const putting = writer.put([Buffer.from('late')]).then(() => writer.finish())
      await expect(putting).rejects.toMatchObject({ code: 'CONFLICT' })
      expect(await sweeper.data.generations()).toEqual([])
    })

    it('deletes the units of objects; absent ones are no error', async () => {
      const store = await newStore()
      const gone = await put(store, [Buffer.from('gone'), Buffer.from('gone too')])
      const kept = await put(store, [Buffer.from('kept')])
      await store.data.deleteUnits(gone)
      await store.data.deleteUnits(gone)
      await store.data.deleteUnits([])
      expect(await store.data.read([...gone, ...kept])).toEqual([null, null, Buffer.from('kept')])
    })

    it('keeps datasets apart', async () => {
      const [one, other] = [await newStore(), await newStore()]
      await put(one, [Buffer.from('one')])
      await one.data.putManifest(tagOf(1), Buffer.from('one'))
      expect(await other.data.generations()).toEqual([])
      expect(await other.data.listManifests()).toEqual([])
    })
  })

  describe('manifests', () => {
    it('are put once: equal bytes are the same, other bytes a conflict', async () => {
      const store = await newStore()
      expect(await store.data.readManifest(tagOf(1))).toBeNull()
      expect(await store.data.putManifest(tagOf(1), Buffer.from('one'))).toBe('created')
      expect(await store.data.putManifest(tagOf(1), Buffer.from('one'))).toBe('same')
      await expect(store.data.putManifest(tagOf(1), Buffer.from('two'))).rejects.toMatchObject({ code: 'CONFLICT' })
      expect(same(await store.data.readManifest(tagOf(1)), Buffer.from('one'))).toBe(true)
    })

    it('of one tag put by several at once have one content', async () => {
      const stores = await newStores(8)
      const puts = stores.map((store, n) => store.data.putManifest(tagOf(1), Buffer.from(`attempt ${n}`)))
      const outcomes = await Promise.allSettled(puts)
      const winners = outcomes.flatMap((outcome, n) => (outcome.status === 'fulfilled' ? [n] : []))
      expect(winners).toHaveLength(1)
      const found = await (stores[0] as Store).data.readManifest(tagOf(1))
      expect(same(found, Buffer.from(`attempt ${winners[0]}`))).toBe(true)
    })

    it('are listed until they are deleted; twice is no error', async () => {
      const store = await newStore()
      for (const n of [1, 2, 3]) await store.data.putManifest(tagOf(n), Buffer.from(`${n}`))
      await store.data.deleteManifest(tagOf(2))
      await store.data.deleteManifest(tagOf(2))
      expect((await store.data.listManifests()).sort()).toEqual([tagOf(1), tagOf(3)])
    })
  })

  describe('the pointer', () => {
    it('is null before the first write, and then what was written', async () => {
      const { pointer } = await newStore()
      expect(await pointer.read()).toBeNull()
      expect(await pointer.swap(null, emptyPointer('shop'))).toBe(true)
      expect((await pointer.read())?.pointer).toEqual(emptyPointer('shop'))
      expect(await pointer.swap(null, emptyPointer('shop'))).toBe(false)
    })

    it('has one winner of 20 that swap at once, and all read the winner’s', async () => {
      const stores = await newStores(20)
      const [first] = stores as [Store]
      await first.pointer.swap(null, emptyPointer('shop'))
      for (let round = 0; round < 5; round++) {
        const before = await first.pointer.read()
        const swaps = stores.map((store, n) =>
          store.pointer.swap(before?.token ?? null, { ...emptyPointer('shop'), flipId: `${round}-${n}` }),
        )
        const won = (await Promise.all(swaps)).flatMap((isSet, n) => (isSet ? [n] : []))
        expect(won).toHaveLength(1)
        for (const store of stores) expect((await store.pointer.read())?.pointer.flipId).toBe(`${round}-${won[0]}`)
      }
    })

    it('refuses a swap with the token of an earlier, equal state', async () => {
      const { pointer } = await newStore()
      const [zero, one] = [emptyPointer('shop'), { ...emptyPointer('shop'), flipId: 'one' }]
      await pointer.swap(null, zero)
      const early = (await pointer.read()) as PointerRead
      await pointer.swap(early.token, one)
      await pointer.swap((await pointer.read())?.token ?? null, zero)
      expect((await pointer.read())?.pointer).toEqual(early.pointer)
      expect(await pointer.swap(early.token, one)).toBe(false)
    })

    it('takes one of 20 concurrent flips; the others conflict', async () => {
      const stores = await newStores(20)
      const flips = stores.map((store, n) =>
        changePointer(store.pointer, flipFrom(null, n + 1, `flip-${n}`), { dataset: 'shop' }),
      )
      const outcomes = await Promise.allSettled(flips)
      const codes = outcomes.map((outcome) => (outcome.status === 'fulfilled' ? 'applied' : outcome.reason.code))
      expect(codes.filter((code) => code === 'applied')).toHaveLength(1)
      expect(codes.every((code) => ['applied', 'SUPERSEDED'].includes(code))).toBe(true)
    })

    it('makes all of 10 concurrent changes that do not exclude each other', async () => {
      const stores = await newStores(10)
      await Promise.all(
        stores.map((store, n) =>
          changePointer(store.pointer, { kind: 'quarantine', tag: tagOf(n + 1) }, { dataset: 'shop' }),
        ),
      )
      const read = await (stores[0] as Store).pointer.read()
      expect(read?.pointer.quarantined.toSorted()).toEqual(stores.map((_, n) => tagOf(n + 1)).toSorted())
    })

    it('finds a flip whose reply was lost already made, and makes it once', async () => {
      const store = await newStore()
      const plan = new FaultPlan().fail('pointer.swap', { kind: 'after' })
      const flip = flipFrom(null, 1, 'flip-1')
      const { outcome, pointer } = await changePointer(faultyStore(store, plan).pointer, flip, { dataset: 'shop' })
      expect([outcome, pointer.flipId, plan.left]).toEqual(['already', 'flip-1', 0])
      expect(plan.calls.filter((call) => call === 'pointer.swap')).toHaveLength(1)
      expect((await store.pointer.read())?.pointer).toEqual(pointer)
    })

    it('makes a flip whose first write never arrived', async () => {
      const store = await newStore()
      const plan = new FaultPlan().fail('pointer.read', { kind: 'before' }).fail('pointer.swap', { kind: 'before' })
      const { outcome } = await changePointer(faultyStore(store, plan).pointer, flipFrom(null, 1, 'flip-1'), {
        dataset: 'shop',
      })
      expect([outcome, plan.left]).toEqual(['applied', 0])
      expect((await store.pointer.read())?.pointer.flipId).toBe('flip-1')
    })

    it('finds a flip that was overtaken after its reply was lost made once, and leaves the later one', async () => {
      const [store, rival] = (await newStores(2)) as [Store, Store]
      const faulty = faultyStore(store, new FaultPlan().fail('pointer.swap', { kind: 'after' }))
      const overtaken = { ...faulty.pointer, read: vi.fn(faulty.pointer.read) }
      overtaken.read
        .mockImplementationOnce(() => store.pointer.read())
        .mockImplementationOnce(async () => {
          const now = await rival.pointer.read()
          await changePointer(rival.pointer, flipFrom(now?.pointer ?? null, 2, 'flip-2'), { dataset: 'shop' })
          return store.pointer.read()
        })
      const late = await changePointer(overtaken, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
      expect([late.outcome, late.pointer.flipId]).toEqual(['already', 'flip-2'])
      expect((await store.pointer.read())?.pointer).toMatchObject({ flipId: 'flip-2', previous: version(1) })
    })

    it('leaves an outcome that stays unknown to the caller, after few tries', async () => {
      const store = await newStore()
      const plan = new FaultPlan().fail('pointer.swap', { kind: 'before' }, 3)
      const flip = changePointer(faultyStore(store, plan).pointer, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
      await expect(flip).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
      expect(plan.left).toBe(0)
    })

    it('lets no writer that was paused since its read change anything', async () => {
      const [paused, rival] = (await newStores(2)) as [Store, Store]
      let wake: (value: unknown) => void = () => undefined
      const plan = new FaultPlan().fail('pointer.swap', { kind: 'pause', until: new Promise((go) => (wake = go)) })
      const late = changePointer(faultyStore(paused, plan).pointer, flipFrom(null, 1, 'late'), { dataset: 'shop' })
      await vi.waitFor(() => expect(plan.calls).toContain('pointer.swap'))
      await changePointer(rival.pointer, flipFrom(null, 2, 'in time'), { dataset: 'shop' })
      // More than any driver keeps of its past.
      for (let n = 0; n < 40; n++) {
        const change: PointerChange =
          n % 2 === 0 ? { kind: 'quarantine', tag: tagOf(9) } : { kind: 'release', tag: tagOf(9) }
        await changePointer(rival.pointer, change, { dataset: 'shop' })
      }
      wake(undefined)
      await expect(late).rejects.toMatchObject({ code: 'SUPERSEDED' })
      expect((await rival.pointer.read())?.pointer).toMatchObject({ flipId: 'in time', active: version(2) })
    })

    it('keeps what a newer snapflip wrote into it, and is not changed where that says it must not be', async () => {
      const { pointer } = await newStore()
      const later = { ...emptyPointer('shop'), later: { some: 'thing' } }
      await pointer.swap(null, later)
      await changePointer(pointer, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
      const read = (await pointer.read()) as PointerRead
      expect(read.pointer).toMatchObject({ flipId: 'flip-1', later: { some: 'thing' } })
      const newer = { ...read.pointer, minWriter: 2 }
      await pointer.swap(read.token, newer)
      const changes: PointerChange[] = [flipFrom(newer, 2, 'flip-2'), { kind: 'retire', tag: tagOf(7) }]
      for (const change of changes) {
        await expect(changePointer(pointer, change, { dataset: 'shop' })).rejects.toMatchObject({
          code: 'FORMAT_TOO_NEW',
          message: expect.stringContaining('Upgrade snapflip'),
        })
      }
      expect((await pointer.read())?.pointer).toEqual(newer)
    })

    it('is seen by those who watch, until they stop', async () => {
      const [writer, reader] = (await newStores(2)) as [Store, Store]
      const seen: Array<string | null> = []
      const stop = new AbortController()
      reader.pointer.watch({
        pollMs: 50,
        signal: stop.signal,
        onPointer: (read) => seen.push(read?.pointer.flipId ?? null),
        onError: (error) => expect(error).toBeUndefined(),
      })
      await vi.waitFor(() => expect(seen).toEqual([null]))
      for (const n of [1, 2]) {
        const now = await writer.pointer.read()
        await changePointer(writer.pointer, flipFrom(now?.pointer ?? null, n, `flip-${n}`), { dataset: 'shop' })
        await vi.waitFor(() => expect(seen.at(-1)).toBe(`flip-${n}`), { timeout: 2000, interval: 5 })
      }
      expect(seen).toEqual([null, 'flip-1', 'flip-2'])
      stop.abort()
      // Another that goes on watching sees two changes, one after the other: time enough for this one, if it were not over.
      const seenBesides: string[][] = []
      const goOn = new AbortController()
      reader.pointer.watch({
        pollMs: 50,
        signal: goOn.signal,
        onPointer: (read) => seenBesides.push(read?.pointer.quarantined ?? []),
        onError: (error) => expect(error).toBeUndefined(),
      })
      for (const tag of [tagOf(8), tagOf(9)]) {
        await changePointer(writer.pointer, { kind: 'quarantine', tag }, { dataset: 'shop' })
        await vi.waitFor(() => expect(seenBesides.at(-1)).toContain(tag), { timeout: 2000, interval: 5 })
      }
      goOn.abort()
      expect(seen).toHaveLength(3)
    })
  })

  describe('leases', () => {
    it('are listed until they are dropped, and renewed under the same id', async () => {
      const store = await newStore()
      await store.leases.put({ id: 'reader/1', tag: tagOf(1), kind: 'reader', ttlMs: 60_000 })
      await store.leases.put({ id: 'build:2', tag: tagOf(1), kind: 'build', ttlMs: 60_000 })
      await store.leases.put({ id: 'reader/1', tag: tagOf(2), kind: 'reader', ttlMs: 90_000 })
      const leases = (await store.leases.list()).sort((a, b) => (a.id < b.id ? -1 : 1))
      expect(leases).toMatchObject([
        { id: 'build:2', tag: tagOf(1), kind: 'build' },
        { id: 'reader/1', tag: tagOf(2), kind: 'reader' },
      ])
      const leftMs = (leases[1]?.expiresAt.getTime() ?? 0) - Date.now()
      expect(leftMs).toBeGreaterThan(80_000)
      expect(leftMs).toBeLessThan(100_000)
      await store.leases.drop('reader/1')
      await store.leases.drop('reader/1')
      expect((await store.leases.list()).map((lease) => lease.id)).toEqual(['build:2'])
    })

    it('are listed by the beginning of their ids too, taken as it stands', async () => {
      const store = await newStore()
      for (const id of ['build:1', 'build:2', 'build', 'xbuild:3', 'b%3A4'])
        await store.leases.put({ id, tag: tagOf(1), kind: 'build', ttlMs: 60_000 })
      const idsOf = async (begin: string) => (await store.leases.list(begin)).map(({ id }) => id).sort()
      expect(await idsOf('build:')).toEqual(['build:1', 'build:2'])
      expect(await idsOf('b%')).toEqual(['b%3A4'])
      expect(await idsOf('none')).toEqual([])
    })

    it('expire by the store’s clock, not before their time', async () => {
      const store = await newStore()
      const from = Date.now()
      await store.leases.put({ id: 'short', tag: tagOf(1), kind: 'reader', ttlMs: 1500 })
      await store.leases.put({ id: 'long', tag: tagOf(1), kind: 'reader', ttlMs: 60_000 })
      expect(await store.leases.list()).toHaveLength(2)
      await vi.waitFor(async () => expect((await store.leases.list()).map((lease) => lease.id)).toEqual(['long']), {
        timeout: 10_000,
        interval: 100,
      })
      expect(Date.now() - from).toBeGreaterThanOrEqual(1400)
    })

    it('and retiring see each other, whichever came first', async () => {
      for (let round = 0; round < 10; round++) {
        const [reader, sweeper] = (await newStores(2)) as [Store, Store]
        const lease = async () => {
          await reader.leases.put({ id: 'reader', tag: tagOf(1), kind: 'reader', ttlMs: 60_000 })
          return (await reader.pointer.read())?.pointer.retired.includes(tagOf(1)) ?? false
        }
        const retire = async () => {
          await changePointer(sweeper.pointer, { kind: 'retire', tag: tagOf(1) }, { dataset: 'shop' })
          return (await sweeper.leases.list()).length > 0
        }
        const [readerSawRetire, sweeperSawLease] = await Promise.all([lease(), retire()])
        expect(readerSawRetire || sweeperSawLease).toBe(true)
      }
    })
  })

  describe('counters', () => {
    it('of a reader are whole totals: what is put again takes the place of what was, a side and a watch by itself', async () => {
      const [one, other] = (await newStores(2)) as [Store, Store]
      await one.counters.put(report({ reads: 10 }))
      await one.counters.put(report({ reads: 25, at: '2026-05-18T10:01:00.000Z' }))
      await other.counters.put(
        report({ readerId: 'other/reader, …', reads: 7, recentKeys: { products: ['1', 'a\0b'] } }),
      )
      await other.counters.put(report({ side: 'candidate', reads: 3 }))
      await other.counters.put(report({ watchId: 'flip-1,active', reads: 99 }))
      const found = await one.counters.list('flip-1')
      expect(found.toSorted((a, b) => b.reads - a.reads)).toEqual([
        report({ reads: 25, at: '2026-05-18T10:01:00.000Z' }),
        report({ readerId: 'other/reader, …', reads: 7, recentKeys: { products: ['1', 'a\0b'] } }),
        report({ side: 'candidate', reads: 3 }),
      ])
    })

    it('are there until they are dropped or expired; twice is no error', async () => {
      const store = await newStore()
      expect(await store.counters.list('flip-1')).toEqual([])
      for (const watchId of ['flip-1', '..', 'flip/2']) await store.counters.put(report({ watchId }))
      await store.counters.dropExpired()
      await store.counters.drop('flip-1')
      await store.counters.drop('flip-1')
      expect(await store.counters.list('flip-1')).toEqual([])
      expect(await store.counters.list('..')).toEqual([report({ watchId: '..' })])
      expect(await store.counters.list('flip/2')).toEqual([report({ watchId: 'flip/2' })])
    })

    it('that are none count for nobody', async () => {
      const store = await newStore()
      await store.counters.put(report({ reads: -1 }))
      await store.counters.put(report({ readerId: 'second', latencyMs: [1] }))
      await store.counters.put(report({ readerId: 'third' }))
      expect(await store.counters.list('flip-1')).toEqual([report({ readerId: 'third' })])
    })
  })

  it('decides every change as the pure function does', async () => {
    const store = await newStore()
    let expected = emptyPointer('shop')
    const hold = { by: 'ann', reason: 'a "quoted" — reason', at: '2026-05-18T10:00:00Z' }
    const changes: PointerChange[] = [
      flipFrom(null, 1, 'a'),
      { kind: 'hold', hold },
      { kind: 'resume', holds: [hold] },
      { kind: 'retire', tag: tagOf(7) },
      { kind: 'forget', tag: tagOf(7) },
      { kind: 'fresh', expectedTag: tagOf(1), freshAsOf: { snapshot: '1:5:2,3', at: '2026-05-18T10:00:00Z' } },
    ]
    for (const change of changes) {
      const decided = applyChange(expected, change, 'shop')
      if (decided.outcome === 'refused') throw new Error(decided.message)
      expected = decided.pointer
      expect((await changePointer(store.pointer, change, { dataset: 'shop' })).pointer).toEqual(expected)
      expect((await store.pointer.read())?.pointer).toEqual(expected)
    }
  })
}

async function put(store: Store, objects: Uint8Array[]): Promise<Location[]> {
  const writer = await store.data.begin(newGeneration())
  const locations = await writer.put(objects)
  await writer.finish()
  return locations
}

/** Compares bytes; `toEqual` on megabytes takes seconds. */
function same(found: Uint8Array | null | undefined, expected: Uint8Array | undefined): boolean {
  return found != null && expected !== undefined && Buffer.compare(found, expected) === 0
}
