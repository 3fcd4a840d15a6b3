import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Activities } from '../../activities/index.ts'
import { refreshStatusSchema } from '../../schemas/refresh.ts'
import { METRICS, type MetricDeclaration, type MetricName } from '../core/metrics.ts'
import { type RaiseAlert, RUNBOOKS } from './alert.ts'

type NamesOf<K extends MetricDeclaration['kind'], From extends MetricDeclaration['from']> = {
  [N in MetricName]: (typeof METRICS)[N] extends { kind: K; from: From } ? N : never
}[MetricName]
type GaugeName = NamesOf<'gauge', 'worker'>

/** One value of a gauge. */
export interface Measured {
  name: GaugeName
  labels: Readonly<Record<string, string>>
  value: number
}

/** What a worker exports: what it counts itself, and gauges that are set when somebody asks (`Measurements`). */
export class WorkerMetrics {
  readonly registry = new Registry()
  readonly #refreshes = this.#histogram('snapflip_refresh_duration_seconds')
  readonly #steps = this.#histogram('snapflip_step_duration_seconds')
  readonly #alerts = this.#counter('snapflip_alerts_total')
  readonly #scrapeErrors = this.#counter('snapflip_scrape_errors_total')
  readonly #gauges: ReadonlyMap<string, Gauge>

  /** @param datasets each has its series from the start: what appears with its first event has risen from nothing, by no rule's reckoning. */
  constructor(datasets: readonly string[] = []) {
    for (const dataset of datasets) {
      for (const status of refreshStatusSchema.options) this.#refreshes.zero({ dataset, status })
      for (const kind of Object.keys(RUNBOOKS)) this.#alerts.inc({ dataset, kind }, 0)
    }
    const gauges = Object.entries<MetricDeclaration>(METRICS).filter(
      ([, m]) => m.kind === 'gauge' && m.from === 'worker',
    )
    this.#gauges = new Map(gauges.map(([name, declared]) => [name, new Gauge(this.#options(name, declared))]))
  }

  /** The activities, with what becomes of refreshes counted. A refresh is counted by the worker that closed it. */
  around(activities: Activities): Activities {
    return {
      ...activities,
      finish: async (end) => {
        const outcome = await activities.finish(end)
        const { dataset, status } = end
        const steps = Object.entries(end.durationsMs)
        for (const [step, ms] of steps) this.#steps.observe({ dataset, step }, ms / 1000)
        this.#refreshes.observe({ dataset, status }, steps.reduce((sum, [, ms]) => sum + ms, 0) / 1000)
        return outcome
      },
    }
  }

  countAlerts(raise: RaiseAlert): RaiseAlert {
    return (alert) => {
      this.#alerts.inc({ dataset: alert.dataset, kind: alert.kind })
      return raise(alert)
    }
  }

  countScrapeError(part: string): void {
    this.#scrapeErrors.inc({ part })
  }

  /** All gauges at once: what was not measured this time is not told as if it were. */
  setGauges(measured: readonly Measured[]): void {
    for (const gauge of this.#gauges.values()) gauge.reset()
    for (const { name, labels, value } of measured) this.#gauges.get(name)?.set({ ...labels }, value)
  }

  #options(name: string, { help, labels }: MetricDeclaration) {
    return { name, help, labelNames: labels, registers: [this.registry] }
  }

  #histogram(name: NamesOf<'histogram', 'worker'>): Histogram {
    return new Histogram({ ...this.#options(name, METRICS[name]), buckets: [...METRICS[name].buckets] })
  }

  #counter(name: NamesOf<'counter', 'worker'>): Counter {
    return new Counter(this.#options(name, METRICS[name]))
  }
}
