import { hostname, userInfo } from 'node:os'
import type { Client as TemporalClient } from '@temporalio/client'
import type { Client, Pool } from 'pg'
import type { DatasetDefinition } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'
import { own } from '../core/own.ts'
import { type LoadedConfig, loadConfig } from '../load-config.ts'
import type { FurtherStore, Store } from '../stores/ports.ts'
import { connectTemporal } from './temporal.ts'

/**
 * What a verb uses of the world, opened when it first asks for it and closed when it ends. Drivers are loaded as late: `--help` and a wrong
 * flag answer at once.
 */
export class Session {
  readonly json: boolean
  /** For a workflow to be taken: a server that takes connections and then hangs is told of, not waited for, during a rollback least of all. */
  readonly temporalAnswerMs: number = 30_000
  readonly #configFile: string | undefined
  readonly #closers: Array<() => Promise<unknown>> = []
  #loaded: Promise<LoadedConfig> | undefined
  #registry: Promise<Pool> | undefined
  #temporal: Promise<TemporalClient> | undefined
  readonly #stores = new Map<string, Promise<Store>>()

  constructor({ config, json }: { config?: string; json?: boolean }) {
    this.json = json ?? false
    this.#configFile = config
  }

  loaded(): Promise<LoadedConfig> {
    this.#loaded ??= loadConfig(this.#configFile)
    return this.#loaded
  }

  async config(): Promise<LoadedConfig['config']> {
    return (await this.loaded()).config
  }

  /** @throws SnapflipError UNKNOWN_DATASET, naming those that there are. */
  async dataset(name: string): Promise<DatasetDefinition> {
    const { config, file } = await this.loaded()
    const definition = own(config.datasets, name)
    if (definition !== undefined) return definition
    const known = Object.keys(config.datasets)
    throw new SnapflipError(
      'UNKNOWN_DATASET',
      `Expected a dataset of ${file} (${known.join(', ') || 'it has none yet'}), found ${JSON.stringify(name)}.`,
      { dataset: name, known },
    )
  }

  /** As the file has it; else, as it was applied last: what happened to it can be asked for after it was dropped. @throws what `dataset` and `registry` throw */
  async recordedDataset(name: string): Promise<DatasetDefinition> {
    const isInFile = own((await this.config()).datasets, name) !== undefined
    return (isInFile ? null : await this.#applied(name)) ?? this.dataset(name)
  }

  /** A dataset of the file as it was applied last: what was edited since counts for nothing yet. @throws what `dataset` and `registry` throw */
  async appliedDataset(name: string): Promise<DatasetDefinition> {
    const inFile = await this.dataset(name)
    return (await this.#applied(name)) ?? inFile
  }

  async #applied(name: string): Promise<DatasetDefinition | null> {
    const { currentDefinition } = await import('../registry/current-definition.ts')
    return (await currentDefinition(await this.registry(), name))?.definition ?? null
  }

  /** The registry, whether its tables are there or not. */
  database(): Promise<Pool> {
    this.#registry ??= (async () => {
      const { connectRegistry } = await import('../registry/connect.ts')
      const pool = await connectRegistry((await this.config()).database)
      this.#closers.push(() => pool.end())
      return pool
    })()
    return this.#registry
  }

  /** @throws SnapflipError REGISTRY_NOT_MIGRATED besides what `database` throws. */
  async registry(): Promise<Pool> {
    const pool = await this.database()
    const { requireMigrated } = await import('../registry/migrate.ts')
    await requireMigrated(pool)
    return pool
  }

  /** A connection of its own for what reads sources, with a build's settings. @throws what `database` throws: that looks at the server first. */
  async builder(): Promise<Client> {
    await this.database()
    const { connectBuilder } = await import('../changelog/session.ts')
    const client = await connectBuilder((await this.config()).database)
    this.#closers.push(() => client.end())
    return client
  }

  /** The first store's without a name. @throws SnapflipError USAGE for a store that the dataset does not name. */
  async storeUrl(dataset: string, asked?: string): Promise<{ name: string; url: string }> {
    const { stores } = await this.dataset(dataset)
    const name = asked ?? (stores[0] as string)
    const url = stores.includes(name) ? (await this.config()).stores[name] : undefined
    if (url !== undefined) return { name, url }
    throw new SnapflipError(
      'USAGE',
      `Expected a store of ${dataset} (${stores.join(', ')}), found ${JSON.stringify(name)}.`,
      { dataset, store: name },
    )
  }

  /** A store of the dataset, the first without a name. Opening does not connect: the first call does. */
  async store(dataset: string, name?: string): Promise<Store> {
    const { stores } = await this.dataset(dataset)
    return this.#opened(dataset, name ?? (stores[0] as string))
  }

  /** The stores that the dataset is published to beside its first, in the declared order. */
  async furtherStores(dataset: string): Promise<FurtherStore[]> {
    const [, ...names] = (await this.dataset(dataset)).stores
    return Promise.all(names.map(async (name) => ({ name, store: await this.#opened(dataset, name) })))
  }

  #opened(dataset: string, name: string): Promise<Store> {
    const key = `${dataset}/${name}`
    const known = this.#stores.get(key)
    if (known !== undefined) return known
    const opened = (async () => {
      const { url } = await this.storeUrl(dataset, name)
      const { openStore } = await import('../stores/open.ts')
      const store = await openStore(url, { dataset })
      this.#closers.push(() => store.close())
      return store
    })()
    this.#stores.set(key, opened)
    return opened
  }

  /** @throws SnapflipError TEMPORAL_UNREACHABLE */
  temporal(): Promise<TemporalClient> {
    this.#temporal ??= (async () => {
      const { temporal } = await this.config()
      const client = await connectTemporal(temporal, this.actor)
      this.#closers.push(() => client.connection.close())
      return client
    })()
    return this.#temporal
  }

  /** Who acts, as far as this machine knows: for holds and workflows that a person starts. */
  get actor(): string {
    const name = process.env.USER ?? process.env.LOGNAME
    return `${name ?? safeUserName()}@${hostname()}`
  }

  /** A line for people beside the result. */
  note(line: string): void {
    process.stderr.write(`${line}\n`)
  }

  onClose(closer: () => Promise<unknown>): void {
    this.#closers.push(closer)
  }

  /** Closes all, whatever fails: the verb's own outcome is what counts. */
  async close(): Promise<void> {
    for (const closer of this.#closers.splice(0).reverse()) await closer().catch(() => undefined)
  }
}

/** An account without a name (a container's random user id) has none to tell. */
function safeUserName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid-${process.getuid?.() ?? 'unknown'}`
  }
}
