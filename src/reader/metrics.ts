import { SnapflipError } from '../core/errors.ts'
import { METRICS, type MetricDeclaration } from '../core/metrics.ts'

/** What is needed of prom-client's Registry (14, 15): it is given by the application, so that no reader loads a library of metrics. */
export interface MetricsRegistry {
  // biome-ignore lint/suspicious/noExplicitAny: prom-client's own metric classes, which are not imported; what `get` gives is typed below.
  registerMetric(metric: any): void
}

/** What is measured of a reader; a `Reader` is one. */
export interface MeasuredReader {
  readonly dataset: string
  readonly store: string
  readonly ageMs: number
  readonly counters: Readonly<Record<string, number>>
  readonly latencies: { readonly counts: readonly number[] }
}

/** Whether a build runs; null where that cannot be known. */
export type AsksForBuild = () => Promise<boolean | null>

/** A build that is asked about now and then is seen: they take longer, and reads between two looks count as both looks agree. */
const LOOK_EVERY_MS = 5_000
/** Where nobody has scraped for so long, nobody wants to know: the store is not asked. */
const SCRAPED_WITHIN_MS = 180_000

type ReaderMetric = {
  [N in keyof typeof METRICS]: (typeof METRICS)[N]['from'] extends 'reader' ? N : never
}[keyof typeof METRICS]
type Labels = Readonly<Record<string, string>>
interface Value {
  labels: Labels
  value: number
  metricName?: string
}

/** All readers of a process that share a registry share its metrics. */
const exporters = new WeakMap<MetricsRegistry, Exporter>()

/**
 * Tells a registry of a reader, from now on. Costs a read nothing: what the reader counts anyway is looked at when somebody scrapes.
 *
 * @returns ends it. What was counted stays: a counter never falls.
 * @throws USAGE when the registry has another metric of one of our names.
 */
export function exportMetrics(registry: MetricsRegistry, reader: MeasuredReader, asks: AsksForBuild): () => void {
  const exporter = exporters.get(registry) ?? new Exporter()
  exporters.set(registry, exporter)
  exporter.register(registry)
  return exporter.add(reader, asks)
}

class Exporter {
  readonly #readers = new Map<MeasuredReader, Shares>()
  readonly #reads = new Sums()
  readonly #blocks = new Sums()
  /** By bucket. */
  readonly #durations = new Sums()
  /** performance.now() when somebody asked last, or a reader was added. */
  #scrapedAt = 0
  /** By the names that they are declared under. */
  readonly #metrics = new Map<string, { name: string }>()

  constructor() {
    const metrics: Record<ReaderMetric, () => Value[]> = {
      snapflip_reads_total: () => this.#reads.values(),
      snapflip_read_duration_seconds: () => this.#histogram(),
      snapflip_block_reads_total: () => this.#blocks.values(),
      snapflip_reader_unconfirmed_seconds: () => this.#unconfirmed(),
    }
    for (const [name, values] of Object.entries(metrics)) {
      const { help, kind }: MetricDeclaration = METRICS[name as ReaderMetric]
      const metric = {
        name: name as string,
        help,
        type: kind,
        get: async () => {
          this.#scrapedAt = performance.now()
          for (const shares of this.#readers.values()) this.#take(shares)
          // The registry's own: in OpenMetrics it takes the end of a counter's name away, and appends it to each sample.
          return { name: metric.name, help, type: kind, values: values(), aggregator: kind === 'gauge' ? 'max' : 'sum' }
        },
        reset: () => undefined,
      }
      this.#metrics.set(name, metric)
    }
  }

  /** With each reader: the registry may have been cleared since. What it still holds it takes for the same. */
  register(registry: MetricsRegistry): void {
    for (const [name, metric] of this.#metrics) {
      metric.name = name
      try {
        registry.registerMetric(metric)
      } catch (cause) {
        throw new SnapflipError(
          'USAGE',
          `Option metrics of open is a registry that does not take ${name}, expected one without another metric of that name: ${(cause as Error).message}`,
          { option: 'metrics' },
          cause,
        )
      }
    }
  }

  add(reader: MeasuredReader, asks: AsksForBuild): () => void {
    const shares = new Shares(reader, asks)
    this.#readers.set(reader, shares)
    this.#scrapedAt = performance.now()
    const timer = setInterval(() => {
      const take = () => this.#take(shares)
      if (performance.now() - this.#scrapedAt > SCRAPED_WITHIN_MS) shares.lookAway(take)
      else void shares.look(take)
    }, LOOK_EVERY_MS)
    // Metrics keep no process alive.
    timer.unref()
    void shares.look(() => undefined)
    return () => {
      clearInterval(timer)
      this.#take(shares)
      this.#readers.delete(reader)
    }
  }

  /** What a reader has counted since it was looked at last. */
  #take(shares: Shares): void {
    const { dataset, store } = shares.reader
    const { reads, misses, errors, unavailable, blockReads, blockCacheHits } = shares.counted()
    this.#reads.add({ dataset, store, outcome: 'hit' }, reads - misses)
    this.#reads.add({ dataset, store, outcome: 'miss' }, misses)
    this.#reads.add({ dataset, store, outcome: 'error' }, errors)
    this.#reads.add({ dataset, store, outcome: 'unavailable' }, unavailable)
    this.#blocks.add({ dataset, from: 'store' }, blockReads)
    this.#blocks.add({ dataset, from: 'memory' }, blockCacheHits)
    const refreshing = shares.building === null ? 'unknown' : String(shares.building)
    for (const [bucket, count] of shares.took().entries())
      if (count > 0) this.#durations.add({ dataset, refreshing, bucket: String(bucket) }, count)
  }

  /** Cumulative, as Prometheus has it; without a sum, since what was counted are buckets. */
  #histogram(): Value[] {
    const name = 'snapflip_read_duration_seconds'
    const { buckets } = METRICS[name]
    const series = new Map<string, { labels: Labels; counts: number[] }>()
    for (const { labels, value } of this.#durations.values()) {
      const { bucket, ...of } = labels
      const key = JSON.stringify(of)
      const one = series.get(key) ?? { labels: of, counts: Array.from({ length: buckets.length + 1 }, () => 0) }
      series.set(key, one)
      one.counts[Number(bucket)] = value
    }
    return [...series.values()].flatMap(({ labels, counts }) => {
      let sum = 0
      const values = counts.map((count, at) => {
        sum += count
        return { metricName: `${name}_bucket`, labels: { ...labels, le: String(buckets[at] ?? '+Inf') }, value: sum }
      })
      return [...values, { metricName: `${name}_count`, labels, value: sum }]
    })
  }

  #unconfirmed(): Value[] {
    const longest = new Map<string, number>()
    for (const { dataset, ageMs } of this.#readers.keys())
      longest.set(dataset, Math.max(longest.get(dataset) ?? 0, ageMs / 1000))
    return [...longest].map(([dataset, value]) => ({ labels: { dataset }, value }))
  }
}

/** A reader, and how far what it has counted was taken. */
class Shares {
  readonly reader: MeasuredReader
  readonly #asks: AsksForBuild
  #counters: Readonly<Record<string, number>> = {}
  #latencies: readonly number[] = []
  /** What the last two looks agreed on; a build that began or ended between them counts as running. */
  building: boolean | null = null
  #seen: boolean | null = null

  constructor(reader: MeasuredReader, asks: AsksForBuild) {
    this.reader = reader
    this.#asks = asks
  }

  async look(take: () => void): Promise<void> {
    const now = await this.#asks().catch(() => null)
    this.building = now === null || this.#seen === null ? now : now || this.#seen
    take()
    this.#seen = now
    this.building = now
  }

  /** Without asking: what is counted from now on is counted beside nobody knows what. */
  lookAway(take: () => void): void {
    if (this.#seen === null) return
    take()
    this.#seen = null
    this.building = null
  }

  counted() {
    const now = this.reader.counters
    const since = (name: string) => (now[name] ?? 0) - (this.#counters[name] ?? 0)
    const counted = {
      reads: since('reads'),
      misses: since('misses'),
      errors: since('errors'),
      unavailable: since('unavailable'),
      blockReads: since('blockReads'),
      blockCacheHits: since('blockCacheHits'),
    }
    this.#counters = now
    return counted
  }

  /** By bucket. */
  took(): number[] {
    const { counts } = this.reader.latencies
    const took = counts.map((count, at) => count - (this.#latencies[at] ?? 0))
    this.#latencies = counts
    return took
  }
}

/** Totals by labels, in the order they came up. */
class Sums {
  readonly #values = new Map<string, { labels: Labels; value: number }>()

  add(labels: Labels, value: number): void {
    const key = JSON.stringify(labels)
    const sum = this.#values.get(key)
    if (sum === undefined) this.#values.set(key, { labels, value })
    else sum.value += value
  }

  values(): Value[] {
    return [...this.#values.values()].map(({ labels, value }) => ({ labels, value }))
  }
}
