import type { ClientBase, Pool } from 'pg'
import type { Config } from '../../schemas/config.ts'
import type { Pointer } from '../../schemas/pointer.ts'
import { measureLag } from '../changelog/measure-lag.ts'
import { bounded } from '../reader/bounded.ts'
import { changelogBytes } from '../registry/changelog-bytes.ts'
import { copies } from '../registry/copies.ts'
import { keptManifests } from '../registry/kept-manifests.ts'
import { measuredDrift } from '../registry/measured-drift.ts'
import { type Standing, standings } from '../registry/standings.ts'
import { undeliveredAlerts } from '../registry/undelivered-alerts.ts'
import type { Store } from '../stores/ports.ts'
import type { Logger } from './log.ts'
import { StoreBytes } from './store-bytes.ts'
import type { Measured, WorkerMetrics } from './worker-metrics.ts'

const TIMES = {
  /** However many scrape, the registry is asked at most this often. */
  everyMs: 5_000,
  /** Each part of a scrape; two follow each other at most, so it answers within Prometheus' own 10 s, whatever hangs. */
  partMs: 4_000,
}

export interface MeasurementsOptions {
  config: Config
  pool: Pool
  /** The dataset's first without a name. */
  store: (dataset: string, name?: string) => Promise<Store>
  /** Tasks that wait, by kind. */
  backlog: () => Promise<Record<string, number>>
  metrics: WorkerMetrics
  log: Logger
  times?: Partial<typeof TIMES>
}

type Part = 'registry' | 'store' | 'temporal'

/** Measures what gauges tell, when somebody asks: a few bounded questions, whose answers are kept for a moment. */
export class Measurements {
  readonly #options: MeasurementsOptions
  readonly #times: typeof TIMES
  readonly #storeBytes = new Map<string, StoreBytes>()
  readonly #unanswered = new Set<string>()
  #last: { at: number; done: Promise<void> } | null = null

  constructor(options: MeasurementsOptions) {
    this.#options = options
    this.#times = { ...TIMES, ...options.times }
  }

  /** Sets the gauges, unless that was done just now. Never throws: what does not answer in time is counted and left out. */
  measure(): Promise<void> {
    if (this.#last === null || performance.now() - this.#last.at >= this.#times.everyMs)
      this.#last = { at: performance.now(), done: this.now().then((all) => this.#options.metrics.setGauges(all)) }
    return this.#last.done
  }

  /** The values of all gauges, measured now. As `measure` otherwise. */
  async now(): Promise<Measured[]> {
    const declared = Object.entries(this.#options.config.datasets)
    const datasets = declared.map(([dataset]) => dataset)
    const registry = this.#part('registry', 'standings', () => this.#ofRegistry(datasets))
    const pointers = Promise.all(datasets.map(async (dataset) => [dataset, await this.#pointerOf(dataset)] as const))
    const measured = await Promise.all([
      registry.then((known) => known?.measured),
      pointers.then((known) => known.flatMap(([dataset, pointer]) => ofPointer(dataset, pointer))),
      Promise.all([registry, pointers]).then(([known, of]) => this.#lags(known?.standings ?? [], new Map(of))),
      this.#part('temporal', 'backlog', async () => ofBacklog(await this.#options.backlog())),
      ...declared.flatMap(([dataset, { stores }]) =>
        stores.map((store, at) =>
          this.#part('store', `bytes of ${dataset} in ${store}`, () => this.#storeBytesOf(dataset, store, at === 0)),
        ),
      ),
    ])
    return measured.flatMap((part) => part ?? [])
  }

  async #ofRegistry(datasets: readonly string[]) {
    return this.#readOnly(async (client) => {
      const known = await standings(client, datasets)
      const measured: Measured[] = known.flatMap(ofStanding)
      for (const { dataset, index, compared, different } of await measuredDrift(client, datasets)) {
        const labels = { dataset, index }
        measured.push({ name: 'snapflip_drift_keys', labels, value: different })
        measured.push({ name: 'snapflip_drift_share', labels, value: compared === 0 ? 0 : different / compared })
      }
      const undelivered = await undeliveredAlerts(client)
      measured.push({ name: 'snapflip_undelivered_alerts', labels: {}, value: undelivered.length })
      measured.push({ name: 'snapflip_changelog_bytes', labels: {}, value: await changelogBytes(client) })
      return { measured, standings: known }
    })
  }

  /** One after another, on one connection at a time: refreshes need the others. */
  async #lags(known: readonly Standing[], pointers: ReadonlyMap<string, Pointer | null>): Promise<Measured[]> {
    const measured: Measured[] = []
    await this.#part('registry', 'lags', async () => {
      for (const standing of known) {
        const { dataset } = standing
        await this.#lagOf(standing, pointers.get(dataset) ?? null).then(
          (lag) => measured.push(...lag),
          (error: unknown) => this.#failed('registry', `lag of ${dataset}`, error),
        )
      }
    })
    return measured
  }

  /** Against the watermark up to which the version is current: the store knows it, where it has the version that the registry does. */
  async #lagOf({ dataset, active, now }: Standing, pointer: Pointer | null): Promise<Measured[]> {
    // A snapshot of another cluster says nothing of the transactions here.
    if (active === null || !active.isHere) return []
    const { snapshot, at } = (pointer?.active?.tag === active.tag ? pointer.freshAsOf : null) ?? active
    if (snapshot === null || at === null) return []
    const indexes = Object.values(this.#options.config.datasets[dataset]?.indexes ?? {})
    const tables = indexes.flatMap((index) => ('from' in index ? [index.from] : []))
    const lag = await this.#readOnly((client) => measureLag(client, { dataset, tables, snapshot }))
    const labels = { dataset }
    const seconds = lag.changes === 0 ? 0 : secondsBetween(new Date(at), now)
    return [
      { name: 'snapflip_source_lag_changes', labels, value: lag.changes },
      { name: 'snapflip_source_lag_seconds', labels, value: seconds },
      { name: 'snapflip_delaying_transactions', labels, value: lag.delayingTransactions },
    ]
  }

  #pointerOf(dataset: string): Promise<Pointer | null> {
    return this.#part('store', `pointer of ${dataset}`, async () => {
      const store = await this.#options.store(dataset)
      return (await store.pointer.read())?.pointer ?? null
    })
  }

  async #storeBytesOf(dataset: string, name: string, isFirst: boolean): Promise<Measured[]> {
    const labels = { dataset, store: name }
    const key = `${dataset}/${name}`
    const known = this.#storeBytes.get(key) ?? new StoreBytes()
    this.#storeBytes.set(key, known)
    const { pool } = this.#options
    const kept = await keptManifests(pool, dataset)
    const store = await this.#options.store(dataset, name)
    // A copy has a manifest of its own.
    const copied = isFirst ? null : await copies(pool, { dataset, url: store.url })
    const there = copied === null ? kept : kept.flatMap(({ tag }) => copied.get(tag) ?? [])
    return [{ name: 'snapflip_store_bytes', labels, value: await known.of(store, dataset, there) }]
  }

  /** In a transaction that ends by itself when this process does not end it. */
  async #readOnly<T>(work: (client: ClientBase) => Promise<T>): Promise<T> {
    const client = await this.#options.pool.connect()
    try {
      await client.query(`begin read only; set local statement_timeout = ${this.#times.partMs}`)
      return await work(client)
    } finally {
      await client.query('rollback').catch(() => undefined)
      client.release(client.getTransactionStatus() !== 'I')
    }
  }

  /** Null when it failed, or did not answer in time. While it has not answered it is not asked again. */
  async #part<T>(part: Part, question: string, ask: () => Promise<T>): Promise<T | null> {
    const { partMs } = this.#times
    try {
      if (this.#unanswered.has(question)) throw new Error('the question before is not answered yet')
      this.#unanswered.add(question)
      const answer = ask().finally(() => this.#unanswered.delete(question))
      return await bounded(answer, partMs, () => new Error(`no answer within ${partMs} ms`))
    } catch (error) {
      this.#failed(part, question, error)
      return null
    }
  }

  #failed(part: Part, question: string, error: unknown): void {
    this.#options.metrics.countScrapeError(part)
    this.#options.log.warn({ err: error, part, question }, 'a part of the metrics could not be measured')
  }
}

function ofStanding({ dataset, active, onHold, openedAt, openFlips, now }: Standing): Measured[] {
  const labels = { dataset }
  const measured: Measured[] = [
    { name: 'snapflip_on_hold', labels, value: onHold ? 1 : 0 },
    { name: 'snapflip_open_flips', labels, value: openFlips },
    { name: 'snapflip_refresh_running_seconds', labels, value: openedAt === null ? 0 : secondsBetween(openedAt, now) },
  ]
  const sealedAt = active?.sealedAt ?? null
  if (sealedAt !== null)
    measured.push({ name: 'snapflip_active_version_age_seconds', labels, value: secondsBetween(sealedAt, now) })
  return measured
}

/** By this machine's clock: the registry may be what does not answer. */
function ofPointer(dataset: string, pointer: Pointer | null): Measured[] {
  const labels = { dataset }
  const { freshAsOf = null, ttl = null } = pointer ?? {}
  const measured: Measured[] = []
  if (freshAsOf !== null)
    measured.push({
      name: 'snapflip_staleness_seconds',
      labels,
      value: secondsBetween(new Date(freshAsOf.at), new Date()),
    })
  if (ttl !== null) measured.push({ name: 'snapflip_staleness_budget_seconds', labels, value: ttl.budgetMs / 1000 })
  return measured
}

const ofBacklog = (backlog: Record<string, number>): Measured[] =>
  Object.entries(backlog).map(([tasks, value]) => ({ name: 'snapflip_task_queue_backlog', labels: { tasks }, value }))

/** Clocks of two machines may differ: never below 0. */
const secondsBetween = (from: Date, to: Date) => Math.max(0, (to.getTime() - from.getTime()) / 1000)
