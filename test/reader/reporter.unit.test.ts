import { afterEach, expect, test, vi } from 'vitest'
import type { CounterReport } from '../../schemas/counters.ts'
import { COUNTED_BAD_MAX, COUNTED_READS_MAX, COUNTERS_KEPT_MS } from '../../src/core/counters.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { emptyPointer } from '../../src/core/pointer.ts'
import { MissingObject } from '../../src/reader/missing-object.ts'
import { Reporter } from '../../src/reader/reporter.ts'
import type { Serving } from '../../src/reader/standing.ts'
import { type Counting, countRead, noCounts, RecentKeys, Tally } from '../../src/reader/tally.ts'
import { version } from '../stores/versions.ts'

const KEY = Buffer.from('1')

let reporter: Reporter
afterEach(() => reporter.close())

/** A reader's counting without a reader: what it serves is what the test says. */
function counting() {
  const put: CounterReport[] = []
  const state = { refuse: null as Error | null, put, told: [] as unknown[] }
  const source = {
    store: {
      counters: {
        put: async (report: CounterReport) => {
          if (state.refuse !== null) throw state.refuse
          put.push(report)
        },
      },
    },
  }
  const all: Counting = { all: noCounts(), recent: new Map() }
  reporter = new Reporter('reader-1', 60_000, all, (error) => state.told.push(error))
  const opened = (ordinal: number) => ({ ref: version(ordinal), tally: new Tally(all.all) })
  const candidate = { version: version(2), share: 0.5, salt: 's', canaryId: 'canary-1', since: '2026-05-18T10:00:00Z' }
  const flipped = { ...emptyPointer('shop'), active: version(1), flipId: 'flip-1' }
  const serve = (pointer: object, open: object, aside: object | null = null) =>
    reporter.serve({ pointer: { ...flipped, ...pointer }, version: open, source, aside } as unknown as Serving)
  return { state, put, opened, serve, candidate, all }
}

const reads = (tally: Tally, times: number, found = true) => {
  for (let n = 0; n < times; n++) countRead({ tally, recent: null }, KEY, found)
}

test('a canary’s reports begin with it, and the flip’s go on beside them', async () => {
  const { put, opened, serve, candidate } = counting()
  const [active, aside] = [opened(1), opened(2)]
  serve({}, active)
  reads(active.tally, 5)
  await reporter.report()
  serve({ candidate }, active, { version: aside, candidate })
  reads(active.tally, 2)
  reads(aside.tally, 3)
  reads(aside.tally, 1, false)
  await reporter.report()
  const shown = put.map(({ watchId, side, tag, reads, misses }) => [watchId, side, tag, reads, misses])
  expect(shown).toEqual([
    ['flip-1', 'active', version(1).tag, 5, 0],
    ['flip-1', 'active', version(1).tag, 7, 0],
    ['canary-1', 'active', version(1).tag, 2, 0],
    ['canary-1', 'candidate', version(2).tag, 4, 1],
  ])
})

test('totals go on when a version is opened anew, and when a reader comes back to a flip', async () => {
  const { put, opened, serve } = counting()
  const [first, again, third] = [opened(1), opened(1), opened(1)]
  serve({}, first)
  reads(first.tally, 5)
  serve({}, again)
  reads(again.tally, 3)
  serve({ flipId: 'flip-2', active: version(2) }, opened(2))
  serve({}, third)
  reads(third.tally, 1)
  await reporter.report()
  expect(put.at(-1)).toMatchObject({ watchId: 'flip-1', reads: 9 })
})

test('what is not the active version is reported for no flip', async () => {
  const { put, opened, serve } = counting()
  const pinned = opened(1)
  serve({ active: version(2) }, pinned)
  reads(pinned.tally, 5)
  await reporter.report()
  expect(put).toEqual([])
})

test('no reader has more weight than the limits, and says `reportBad` only so often', async () => {
  const { put, opened, serve } = counting()
  const active = opened(1)
  serve({}, active)
  reads(active.tally, 3 * COUNTED_READS_MAX)
  for (let n = 0; n < 10 * COUNTED_BAD_MAX; n++) active.tally.wasBad()
  await reporter.report()
  expect(put).toMatchObject([{ reads: COUNTED_READS_MAX, bad: COUNTED_BAD_MAX }])
})

test('a candidate that cannot be opened is an error of its side', async () => {
  const { put, opened, serve, candidate } = counting()
  serve({ candidate }, opened(1))
  reporter.couldNotOpen('canary-1')
  await reporter.report()
  expect(put.at(-1)).toMatchObject({ side: 'candidate', reads: 0, errors: 1 })
})

test('a report is written again only when something was counted', async () => {
  const { put, opened, serve } = counting()
  const active = opened(1)
  serve({ bake: { flipId: 'flip-1', until: '2026-05-18T10:00:00Z' } }, active)
  await reporter.report()
  await reporter.report()
  expect(put).toHaveLength(1)
  reads(active.tally, 1)
  await reporter.report()
  expect(put).toHaveLength(2)
})

test('where nobody watches, reports are few', async () => {
  const { put, opened, serve } = counting()
  const active = opened(1)
  serve({}, active)
  await reporter.report()
  reads(active.tally, 1)
  await reporter.report()
  expect(put).toHaveLength(1)
})

test('a reader that was taken back says at once where it is; after any other flip in its turn', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const { put, opened, serve } = counting()
    serve({ active: version(1) }, opened(1))
    serve({ active: version(2), flipId: 'flip-2' }, opened(2))
    await vi.runAllTimersAsync()
    expect(put).toEqual([])
    serve({ flipId: 'flip-3', quarantined: [version(2).tag] }, opened(1))
    await vi.runAllTimersAsync()
    expect(put).toMatchObject([{ watchId: 'flip-3', tag: version(1).tag }])
  } finally {
    vi.useRealTimers()
  }
})

test('a reader that is closed has the last word where somebody watches', async () => {
  const { put, opened, serve } = counting()
  const active = opened(1)
  serve({ bake: { flipId: 'flip-1', until: '2026-05-18T10:00:00Z' } }, active)
  reads(active.tally, 2)
  await reporter.close()
  await reporter.close()
  expect(put).toMatchObject([{ reads: 2 }])
})

test('a store that may not be written is told of once; one that does not answer is asked again', async () => {
  const { state, put, opened, serve } = counting()
  serve({}, opened(1))
  state.refuse = new SnapflipError('STORE_UNREACHABLE', 'down')
  await reporter.report()
  state.refuse = null
  await reporter.report()
  expect([put.length, state.told]).toEqual([1, []])
  serve({ flipId: 'flip-2' }, opened(1))
  state.refuse = new SnapflipError('STORE_UNSUITABLE', 'read-only')
  await reporter.report()
  await reporter.report()
  expect(state.told).toEqual([state.refuse])
  expect(reporter.counters).toEqual({ reports: 1, reportFailures: 2 })
})

test('a version is to blame for damage, and not for a store that is silent or a question that was wrong', () => {
  const tally = new Tally(counting().all.all)
  tally.failed(new MissingObject({ dataset: 'shop', index: 'products' }, 'block 1'))
  tally.failed(new SnapflipError('SHAPE_MISMATCH', 'another shape'))
  expect(tally.own.errors).toBe(2)
  tally.failed(new SnapflipError('STORE_UNREACHABLE', 'down'))
  tally.failed(new SnapflipError('USAGE', 'null is no key'))
  tally.failed(new SnapflipError('UNKNOWN_INDEX', 'no such index'))
  expect(tally.own.errors).toBe(2)
})

test('recent keys are few, newest first, each once, and none that is long', () => {
  counting()
  const recent = new RecentKeys()
  recent.add(Buffer.alloc(513))
  for (const key of ['a', 'b', 'a']) recent.add(Buffer.from(key))
  expect(recent.list()).toEqual(['a', 'b'])
  for (let n = 0; n < 10_000; n++) recent.add(Buffer.from(`${n}`))
  const keys = recent.list()
  expect(keys).toHaveLength(32)
  expect(Number(keys[0])).toBeGreaterThan(Number(keys[31]))
  expect(Number(keys[31])).toBeGreaterThan(9000)
})

test('keys that were read longer ago than reports are kept are recent no more, and leave room for those read since', () => {
  const recent = new RecentKeys()
  for (let n = 0; n < 10_000; n++) recent.add(Buffer.from(`${n}`))
  const now = performance.now()
  expect(recent.list(now)).toHaveLength(32)
  expect(recent.list(now + COUNTERS_KEPT_MS + 1)).toEqual([])
  for (const key of ['a', 'b', 'c']) recent.add(Buffer.from(key))
  expect(recent.list()).toEqual(['c', 'b', 'a'])
})

test('a latency falls into the first bucket that holds it, and what is beyond all into the last', () => {
  const tally = new Tally(counting().all.all)
  for (const ms of [0.01, 0.025, 0.026, 2500, 2501]) tally.took(ms)
  const { latencyMs } = tally.own
  expect([latencyMs[0], latencyMs[1], latencyMs.at(-2), latencyMs.at(-1)]).toEqual([2, 1, 1, 1])
})
