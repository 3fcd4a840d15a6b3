import { Registry } from 'prom-client'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { LATENCY_BOUNDS_MS } from '../../schemas/counters.ts'
import { METRICS, type MetricDeclaration } from '../../src/core/metrics.ts'
import { exportMetrics, type MeasuredReader } from '../../src/reader/metrics.ts'
import { sampleOf, samplesOf } from '../observe/scrape.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

interface Faked extends MeasuredReader {
  store: string
  counters: Record<string, number>
  latencies: { counts: number[] }
}
const noneCounted = { reads: 0, misses: 0, errors: 0, blockReads: 0, blockCacheHits: 0 }
function fakeReader(dataset = 'shop'): Faked {
  const counts = Array.from({ length: LATENCY_BOUNDS_MS.length + 1 }, () => 0)
  return { dataset, store: 'redis://a', ageMs: 500, counters: noneCounted, latencies: { counts } }
}
const never = async () => false
const reads = 'snapflip_reads_total'
const took = 'snapflip_read_duration_seconds'

it('a registry has the reads of all its readers by outcome and store, and keeps them when a reader is closed', async () => {
  const registry = new Registry()
  const [one, other] = [fakeReader(), fakeReader()]
  const end = exportMetrics(registry, one, never)
  exportMetrics(registry, other, never)
  one.counters = { ...noneCounted, reads: 10, misses: 3, errors: 1, blockReads: 6, blockCacheHits: 4 }
  other.counters = { ...noneCounted, reads: 5 }
  const text = await registry.metrics()
  expect(sampleOf(text, reads, { outcome: 'hit', dataset: 'shop', store: 'redis://a' })).toBe(12)
  expect(sampleOf(text, reads, { outcome: 'miss' })).toBe(3)
  expect(sampleOf(text, reads, { outcome: 'error' })).toBe(1)
  expect(sampleOf(text, 'snapflip_block_reads_total', { from: 'store' })).toBe(6)
  expect(sampleOf(text, 'snapflip_block_reads_total', { from: 'memory' })).toBe(4)

  one.counters = { ...one.counters, reads: 12 }
  end()
  one.counters = { ...one.counters, reads: 99 }
  // Nobody looks at a closed one any more.
  expect(vi.getTimerCount()).toBe(1)
  other.store = 'redis://b'
  other.counters = { ...noneCounted, reads: 6 }
  const later = await registry.metrics()
  expect(sampleOf(later, reads, { outcome: 'hit', store: 'redis://a' })).toBe(14)
  expect(sampleOf(later, reads, { outcome: 'hit', store: 'redis://b' })).toBe(1)
})

it('a registry that was cleared has the metrics again with the next reader, each once', async () => {
  for (const type of ['PROMETHEUS', 'OPENMETRICS'] as const) {
    const registry = new Registry()
    if (type === 'OPENMETRICS') registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never)
    const [one, other, third] = [fakeReader(), fakeReader(), fakeReader()]
    exportMetrics(registry, one, never)
    await registry.metrics()
    exportMetrics(registry, other, never)
    one.counters = { ...noneCounted, reads: 3 }
    other.counters = { ...noneCounted, reads: 4 }
    expect(sampleOf(await registry.metrics(), reads, { outcome: 'hit' })).toBe(7)
    registry.clear()
    exportMetrics(registry, third, never)
    third.counters = { ...noneCounted, reads: 5 }
    expect(sampleOf(await registry.metrics(), reads, { outcome: 'hit' })).toBe(12)
  }
})

it('read latency is told apart by whether a build runs, as far as that may be known', async () => {
  const registry = new Registry()
  const reader = fakeReader()
  let building: boolean | null = false
  let asks = async () => building
  exportMetrics(registry, reader, () => asks())
  await vi.advanceTimersByTimeAsync(1)
  // What nobody has read yet has no series.
  expect(samplesOf(await registry.metrics()).filter(({ name }) => name.startsWith(took))).toEqual([])
  const add = (bucket: number, count: number) => {
    reader.latencies = { counts: reader.latencies.counts.map((was, at) => (at === bucket ? was + count : was)) }
  }
  add(0, 3)
  expect(sampleOf(await registry.metrics(), `${took}_count`, { refreshing: 'false' })).toBe(3)
  add(0, 1)
  await vi.advanceTimersByTimeAsync(5_000)
  building = true
  await vi.advanceTimersByTimeAsync(5_000)
  add(2, 8)
  add(LATENCY_BOUNDS_MS.length, 1)
  const during = await registry.metrics()
  expect(sampleOf(during, `${took}_count`, { refreshing: 'false' })).toBe(4)
  expect(sampleOf(during, `${took}_count`, { refreshing: 'true' })).toBe(9)
  expect(sampleOf(during, `${took}_bucket`, { refreshing: 'true', le: '0.00005' })).toBe(0)
  expect(sampleOf(during, `${took}_bucket`, { refreshing: 'true', le: '0.0001' })).toBe(8)
  expect(sampleOf(during, `${took}_bucket`, { refreshing: 'true', le: '+Inf' })).toBe(9)
  // Until it was seen to have ended, it is taken to run.
  building = false
  add(1, 2)
  await vi.advanceTimersByTimeAsync(5_000)
  expect(sampleOf(await registry.metrics(), `${took}_count`, { refreshing: 'true' })).toBe(11)
  add(1, 1)
  expect(sampleOf(await registry.metrics(), `${took}_count`, { refreshing: 'false' })).toBe(5)
  building = null
  await vi.advanceTimersByTimeAsync(5_000)
  add(1, 3)
  expect(sampleOf(await registry.metrics(), `${took}_count`, { refreshing: 'unknown' })).toBe(3)
  asks = () => Promise.reject(new Error('no rights'))
  await vi.advanceTimersByTimeAsync(5_000)
  add(1, 1)
  expect(sampleOf(await registry.metrics(), `${took}_count`, { refreshing: 'unknown' })).toBe(4)
})

it('of several readers the one that could not look at the pointer for longest is told; none keeps its process alive', async () => {
  const timers = vi.spyOn(globalThis, 'setInterval')
  const registry = new Registry()
  for (const ageMs of [500, 7_000, 1_000]) exportMetrics(registry, { ...fakeReader(), ageMs }, never)
  expect(sampleOf(await registry.metrics(), 'snapflip_reader_unconfirmed_seconds')).toBe(7)
  expect(timers.mock.results.map(({ value }) => (value as NodeJS.Timeout).hasRef())).toEqual([false, false, false])
  timers.mockRestore()
})

it('whether a build runs is asked only while somebody scrapes', async () => {
  const registry = new Registry()
  const reader = fakeReader()
  let asked = 0
  const asks = async () => {
    asked++
    return true
  }
  const end = exportMetrics(registry, reader, asks)
  await vi.advanceTimersByTimeAsync(3_600_000)
  const idle = asked
  expect(idle).toBeLessThan(60)
  reader.latencies = { counts: reader.latencies.counts.map(() => 1) }
  // Nobody looked meanwhile, so nobody knows.
  const text = await registry.metrics()
  expect(sampleOf(text, `${took}_count`, { refreshing: 'unknown' })).toBe(LATENCY_BOUNDS_MS.length + 1)
  expect(sampleOf(text, `${took}_count`, { refreshing: 'true' })).toBeUndefined()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(asked).toBe(idle + 12)
  end()
})

it('what a registry gets is what is declared, in both of its formats', async () => {
  for (const type of ['PROMETHEUS', 'OPENMETRICS'] as const) {
    const registry = new Registry()
    if (type === 'OPENMETRICS') registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never)
    const reader = fakeReader()
    exportMetrics(registry, reader, never)
    reader.latencies = { counts: reader.latencies.counts.map(() => 1) }
    const text = await registry.metrics()
    for (const { name, labels } of samplesOf(text)) {
      const metric = METRICS[name.replace(/_(bucket|count)$/, '') as keyof typeof METRICS] as MetricDeclaration
      expect(metric.from).toBe('reader')
      expect(Object.keys(labels).filter((label) => label !== 'le')).toEqual([...metric.labels])
    }
    expect(sampleOf(text, 'snapflip_reader_unconfirmed_seconds')).toBe(0.5)
    // Of many processes of a cluster counts are added up; an age is that of the worst.
    const aggregators = (await registry.getMetricsAsJSON()).map(({ type, aggregator }) => `${type} ${aggregator}`)
    expect([...new Set(aggregators)].sort()).toEqual(['counter sum', 'gauge max', 'histogram sum'])
  }
})
