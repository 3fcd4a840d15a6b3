import type { Pool } from 'pg'
import type { Deps } from '../../activities/deps.ts'
import type { Mended, StoreFinding } from '../../activities/mend-store.ts'
import { lossOf } from '../core/asserted-pointer.ts'
import { unstartedBakes } from '../registry/bakes.ts'
import { inCanary } from '../registry/canaries.ts'
import { type LastInStore, lastInStores } from '../registry/last-in-stores.ts'
import type { Store } from '../stores/ports.ts'
import type { Logger } from './log.ts'

/** A store that restarted is noticed within about this time. */
const LOOK_EVERY_MS = 10_000
/** What was left as it is, since it was not whole, is read again for the same pointer after so long: what it can be copied back from may answer again. */
const LEFT_EVERY_MS = 300_000

export interface StoreWatchOptions extends Pick<Deps, 'config' | 'store' | 'furtherStores' | 'startBake'> {
  pool: Pool
  mend(finding: StoreFinding, signal: AbortSignal): Promise<Mended>
  /** Where its refresh is at work no more. */
  endDeadCanary(dataset: string, signal: AbortSignal): Promise<void>
  log: Logger
  everyMs?: number
}

/**
 * Looks at the pointers in all stores against what the registry knows was made there, and has those mended that lost something: a Redis that restarted
 * or failed over, a store that came back empty or older. A rollback that was made without the registry is taken over, and watched for what is left of its
 * bake; a canary whose refresh died is ended. Without a refresh or rollback that would find out. Every worker looks.
 */
export class StoreWatch {
  readonly #options: StoreWatchOptions
  /** By dataset and store: the pointer's token where it was left as it is, and when. */
  readonly #left = new Map<string, { token: string | null; at: number }>()
  /** By the name of the store: one that does not answer, or is mended, holds up none of the others. */
  readonly #busy = new Set<string>()
  readonly #mending = new Set<Promise<unknown>>()
  readonly #stop = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #look: Promise<void> | undefined

  constructor(options: StoreWatchOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#look ??= this.#lookOnce().finally(() => {
        this.#look = undefined
      })
    }, this.#options.everyMs ?? LOOK_EVERY_MS)
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#stop.abort()
    await this.#look
    // What is only read, by a store that may never answer, changes nothing.
    await Promise.allSettled(this.#mending)
  }

  /** The registry first: what it knows to be made was in the store before, so a pointer read later without it has lost it. */
  async #lookOnce(): Promise<void> {
    const { config, pool, log } = this.#options
    const datasets = Object.keys(config.datasets)
    try {
      const last = await lastInStores(pool, datasets)
      const canaries = await inCanary(pool, datasets)
      for (const name of Object.keys(config.stores)) {
        if (this.#busy.has(name)) continue
        this.#busy.add(name)
        void this.#lookAt(name, last, canaries)
          .catch((err: unknown) => log.warn({ err, store: name }, 'the pointers in a store could not be looked at'))
          .finally(() => this.#busy.delete(name))
      }
    } catch (error) {
      log.warn({ err: error }, 'the stores could not be looked at')
    }
    try {
      for (const bake of await unstartedBakes(pool, datasets)) await this.#options.startBake(bake)
    } catch (error) {
      log.warn({ err: error }, 'what was rolled back without a workflow could not be watched')
    }
  }

  /** All pointers at once; then what was found, one after the other: mending reads versions whole. */
  async #lookAt(name: string, last: readonly LastInStore[], canaries: readonly string[]): Promise<void> {
    const { config, mend, log } = this.#options
    const datasets = Object.keys(config.datasets).filter((dataset) => config.datasets[dataset]?.stores.includes(name))
    const looked = await Promise.allSettled(datasets.map((dataset) => this.#findingOf(dataset, name, last)))
    const failed = looked.find((look) => look.status === 'rejected')
    const amiss = new Set<string>()
    for (const look of looked) {
      if (look.status === 'rejected' || look.value === null || this.#stop.signal.aborted) continue
      const { finding, token } = look.value
      const { dataset } = finding
      const key = `${dataset}/${name}`
      amiss.add(dataset)
      const left = this.#left.get(key)
      if (left?.token === token && performance.now() - left.at < LEFT_EVERY_MS) continue
      const mending = mend(finding, this.#stop.signal)
      this.#mending.add(mending)
      try {
        const mended = await mending
        if (mended === 'left') this.#left.set(key, { token, at: performance.now() })
        else this.#left.delete(key)
        if (mended === 'done') amiss.delete(dataset)
      } catch (error) {
        log.warn({ err: error, dataset, store: name, found: finding.found }, 'a store could not be mended')
      } finally {
        this.#mending.delete(mending)
      }
    }
    for (const dataset of canaries)
      if (this.#isFirst(dataset, name) && !amiss.has(dataset))
        await this.#options.endDeadCanary(dataset, this.#stop.signal)
    if (failed !== undefined) throw failed.reason
  }

  async #findingOf(
    dataset: string,
    name: string,
    all: readonly LastInStore[],
  ): Promise<{ finding: StoreFinding; token: string | null } | null> {
    const store = await this.#storeOf(dataset, name)
    // Nothing was made there yet; or the definition names another place than the one that was applied.
    const last = all.find((known) => known.dataset === dataset && known.url === store.url)
    if (last === undefined) return null
    const [read, isBound] = await Promise.all([store.pointer.read(), store.pointer.isBound()])
    const pointer = read?.pointer ?? null
    const isUnabsorbed = (pointer?.breakGlass.length ?? 0) > 0 && this.#isFirst(dataset, name)
    const found = lossOf(pointer, isBound, last) ?? (isUnabsorbed ? 'unabsorbed' : null)
    return found && { finding: { dataset, store: name, found, last }, token: read?.token ?? null }
  }

  #isFirst(dataset: string, name: string): boolean {
    return this.#options.config.datasets[dataset]?.stores[0] === name
  }

  async #storeOf(dataset: string, name: string): Promise<Store> {
    if (this.#isFirst(dataset, name)) return this.#options.store(dataset)
    const further = (await this.#options.furtherStores(dataset)).find((one) => one.name === name)
    if (further === undefined) throw new Error(`${dataset} has no further store ${name}`)
    return further.store
  }
}
