import type { Config } from '../../schemas/config.ts'
import { expiredByMs } from '../core/expiry.ts'
import type { Store } from '../stores/ports.ts'
import type { RaiseAlert } from './alert.ts'
import type { Logger } from './log.ts'

/** A fraction of the shortest budget, within these. */
const LOOK_EVERY_MIN_MS = 1_000
const LOOK_EVERY_MAX_MS = 60_000
const LOOKS_A_BUDGET = 4

export interface ExpiryWatchOptions {
  config: Config
  store(dataset: string): Promise<Store>
  alert: RaiseAlert
  log: Logger
}

/**
 * Tells when an active version is older than its dataset's `ttl`: whatever keeps it from being refreshed (a hold, failures, nobody who asks), and
 * without a refresh that could find out. Every worker looks; an incident is told once.
 */
export class ExpiryWatch {
  readonly #options: ExpiryWatchOptions
  readonly #datasets: readonly string[]
  #timer: NodeJS.Timeout | undefined
  #look: Promise<void> | undefined

  constructor(options: ExpiryWatchOptions) {
    this.#options = options
    const { datasets } = options.config
    this.#datasets = Object.keys(datasets).filter((dataset) => datasets[dataset]?.ttl !== undefined)
  }

  start(): void {
    const { datasets } = this.#options.config
    const budgets = this.#datasets.map((dataset) => datasets[dataset]?.ttl?.budgetMs ?? Number.POSITIVE_INFINITY)
    if (budgets.length === 0) return
    const everyMs = Math.min(LOOK_EVERY_MAX_MS, Math.max(LOOK_EVERY_MIN_MS, Math.min(...budgets) / LOOKS_A_BUDGET))
    this.#timer = setInterval(() => this.#lookOnce(), everyMs)
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#look
  }

  /** One look at a time: a store that hangs is not asked again by each tick. */
  #lookOnce(): void {
    this.#look ??= Promise.all(this.#datasets.map((dataset) => this.#lookAt(dataset))).then(() => {
      this.#look = undefined
    })
  }

  async #lookAt(dataset: string): Promise<void> {
    const { store, alert, log } = this.#options
    try {
      const pointer = (await (await store(dataset)).pointer.read())?.pointer ?? null
      const byMs = pointer === null ? null : expiredByMs(pointer, new Date())
      if (pointer === null || byMs === null) return
      const { active, freshAsOf, ttl, hold } = pointer
      const held = hold === null ? '' : ` It is on hold by ${hold.by}: ${hold.reason}.`
      const does = ttl?.beyond === 'refuse' ? 'readers refuse it' : 'readers go on with it, marked'
      await alert({
        kind: 'VERSION_EXPIRED',
        dataset,
        version: active?.tag ?? null,
        incident: `${active?.tag} as of ${freshAsOf?.at}`,
        summary: `${active?.tag} of ${dataset} is known to be current up to ${freshAsOf?.at}, longer ago than its budget of ${ttl?.budgetMs} ms; ${does}.${held}`,
        evidence: { freshAsOf: freshAsOf?.at ?? null, budgetMs: ttl?.budgetMs ?? null, beyond: ttl?.beyond ?? null },
      })
    } catch (error) {
      log.warn({ err: error, dataset }, 'whether the active version has expired could not be looked at')
    }
  }
}
