import type { Pool } from 'pg'
import type { Config } from '../../schemas/config.ts'
import { expiredByMs } from '../core/expiry.ts'
import { bounded } from '../reader/bounded.ts'
import { appliedDefinitions } from '../registry/applied-definitions.ts'
import type { Store } from '../stores/ports.ts'
import type { RaiseAlert } from './alert.ts'
import type { Logger } from './log.ts'

/** A fraction of the shortest budget, within these. */
const LOOK_EVERY_MIN_MS = 1_000
const LOOK_EVERY_MAX_MS = 60_000
const LOOKS_A_BUDGET = 4
/** Of the registry, by each look. */
const ASK_MS = 4_000

export interface ExpiryWatchOptions {
  config: Config
  pool: Pool
  store(dataset: string): Promise<Store>
  alert: RaiseAlert
  log: Logger
}

/**
 * Tells when an active version is older than its dataset's `ttl`: whatever keeps it from being refreshed (a hold, failures, nobody who asks), and
 * without a refresh that could find out. Every worker looks; an incident is told once. Which datasets have a budget is as they were applied; whether
 * it is used up, as the pointer has it: an edited file changes neither.
 */
export class ExpiryWatch {
  readonly #options: ExpiryWatchOptions
  /** By dataset, as far as known. What the file has, or was applied before, makes it look at more, never at less. */
  #budgets: ReadonlyMap<string, number>
  #asked: ReturnType<typeof appliedDefinitions> | undefined
  #timer: NodeJS.Timeout | undefined
  #look: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(options: ExpiryWatchOptions) {
    this.#options = options
    this.#budgets = budgetsOf(options.config.datasets)
  }

  start(): void {
    this.#look = this.#askBudgets().then(() => this.#lookLater())
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    await this.#look
  }

  /** One look at a time: a store that hangs is not asked again before it has answered. */
  #lookLater(): void {
    if (this.#isClosed) return
    const shortest = Math.min(...this.#budgets.values())
    const everyMs = Math.min(LOOK_EVERY_MAX_MS, Math.max(LOOK_EVERY_MIN_MS, shortest / LOOKS_A_BUDGET))
    this.#timer = setTimeout(() => {
      this.#look = this.#askBudgets()
        .then(() => Promise.all([...this.#budgets.keys()].map((dataset) => this.#lookAt(dataset))))
        .then(() => this.#lookLater())
    }, everyMs)
  }

  /** A registry that does not answer keeps nobody from looking at what is known, and is not asked again meanwhile. */
  async #askBudgets(): Promise<void> {
    const { config, pool, log } = this.#options
    try {
      this.#asked ??= appliedDefinitions(pool).finally(() => {
        this.#asked = undefined
      })
      const applied = await bounded(this.#asked, ASK_MS, () => new Error(`no answer within ${ASK_MS} ms`))
      const known = [...applied].filter(([dataset]) => Object.hasOwn(config.datasets, dataset))
      this.#budgets = new Map([...this.#budgets, ...budgetsOf(Object.fromEntries(known))])
    } catch (error) {
      log.debug({ err: error }, 'which datasets have a `ttl` could not be asked')
    }
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

const budgetsOf = (datasets: Config['datasets']) =>
  new Map(
    Object.entries(datasets).flatMap(([dataset, { ttl }]) =>
      ttl === undefined ? [] : [[dataset, ttl.budgetMs] as const],
    ),
  )
