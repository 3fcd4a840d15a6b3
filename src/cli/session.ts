import { hostname, userInfo } from 'node:os'
import type { Client as TemporalClient } from '@temporalio/client'
import type { Client, Pool } from 'pg'
import type { DatasetDefinition } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'
import { type LoadedConfig, loadConfig } from '../load-config.ts'
import type { Store } from '../stores/ports.ts'
import { connectTemporal } from './temporal.ts'

/**
 * What a verb uses of the world, opened when it first asks for it and closed when it ends. Drivers are loaded as late: `--help` and a wrong
 * flag answer at once.
 */
export class Session {
  readonly json: boolean
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
    const definition = config.datasets[name]
    if (definition !== undefined) return definition
    const known = Object.keys(config.datasets)
    throw new SnapflipError(
      'UNKNOWN_DATASET',
      `Expected a dataset of ${file} (${known.join(', ') || 'it has none yet'}), found ${JSON.stringify(name)}.`,
      { dataset: name, known },
    )
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

  async storeUrl(dataset: string): Promise<{ name: string; url: string }> {
    const [name] = (await this.dataset(dataset)).stores
    const url = name === undefined ? undefined : (await this.config()).stores[name]
    // The definition's own check has seen to it.
    if (name === undefined || url === undefined) throw new SnapflipError('INTERNAL', `No store for ${dataset}.`)
    return { name, url }
  }

  /** The dataset's store. Opening does not connect: the first call does. */
  store(dataset: string): Promise<Store> {
    const known = this.#stores.get(dataset)
    if (known !== undefined) return known
    const opened = (async () => {
      const { url } = await this.storeUrl(dataset)
      const { openStore } = await import('../stores/open.ts')
      const store = await openStore(url, { dataset })
      this.#closers.push(() => store.close())
      return store
    })()
    this.#stores.set(dataset, opened)
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
