import type { VersionRef } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'
import { lookup, lookupMany } from '../snapshot/block.ts'
import type { Freshness } from './freshness.ts'
import { type Key, keyBytes, keysBytes } from './key.ts'
import { lookUp, lookUpAll, type Take } from './look-up.ts'
import { countRead } from './tally.ts'
import type { Values } from './values.ts'
import type { OpenIndex, OpenVersion } from './version.ts'

/** Of one call. */
export interface ReadOptions {
  /** Of an unpinned read; a pin answers from its one version. */
  fresh?: Freshness
  /** While a canary runs: this key (a user's, say) chooses the side that answers, and not the reader's own. Calls with one key stay on one side. */
  for?: string
}

/** A value with what it comes from. */
export interface Entry<V> {
  value: V
  version: VersionRef
  /** Since the pointer was last known to name this version; Infinity when this reader never knew it to. */
  ageMs: number
  /** True when that, as the read began, was longer than the reader's follow lag. (Of a pin: when its reader cannot refresh the pointer for longer.) */
  stale: boolean
  source: 'store' | 'memory'
  /** True when the version is known to be current only up to longer ago than the dataset's budget (its `ttl`). */
  expired: boolean
  /** URL of the store, without credentials. */
  store: string
}

/** Types of an index's values, by index. */
export type ValueTypes = Record<string, unknown>
type IndexOf<T extends ValueTypes> = keyof T & string

/** The read methods of readers and pins. Every call is answered whole by one version. */
export abstract class Reads<T extends ValueTypes> {
  protected abstract readonly values: Values

  /** Runs a read on the version that has to answer it, again on the next one if that was retired meanwhile. */
  protected abstract answer<R>(
    read: (version: OpenVersion) => R | Promise<R>,
    options: ReadOptions | undefined,
  ): Promise<R>
  /** How current the answer of a read is that began then (performance.now()). */
  protected abstract standing(
    version: OpenVersion,
    begunAt: number,
  ): Pick<Entry<unknown>, 'ageMs' | 'stale' | 'expired' | 'store'>

  /** The value of a key in a unique index; undefined when it has none. */
  get<I extends IndexOf<T>>(index: I, key: Key, options?: ReadOptions): Promise<T[I] | undefined> {
    return this.answer(
      (version) => this.#one(version, index, 'unique', key, this.#takeValue) as T[I] | Promise<T[I]>,
      options,
    )
  }

  /** As `get`, with the version, age and origin of the answer. */
  getEntry<I extends IndexOf<T>>(index: I, key: Key, options?: ReadOptions): Promise<Entry<T[I] | undefined>> {
    const begunAt = performance.now()
    return this.answer(async (version) => {
      const take: Take<{ value: T[I] | undefined; source: 'store' | 'memory' }> = (raw, bytes, at, cached) => ({
        value: this.#takeValue(raw, bytes, at) as T[I] | undefined,
        source: cached ? 'memory' : 'store',
      })
      const found = await this.#one(version, index, 'unique', key, take)
      return { ...found, version: version.ref, ...this.standing(version, begunAt) }
    }, options)
  }

  /** The values of several keys of a unique index, in the order asked, all from one version and in one read of the store. */
  getMany<I extends IndexOf<T>>(
    index: I,
    keys: readonly Key[],
    options?: ReadOptions,
  ): Promise<Array<T[I] | undefined>> {
    return this.answer((version) => {
      const at = this.#index(version, index, 'unique')
      const bytes = keysBytes(keys, at)
      return lookUpAll(version, at, bytes, this.#takeValue as Take<T[I] | undefined>)
    }, options)
  }

  /** The values of a key in a `many` index, in their order; [] when it has none. */
  list<I extends IndexOf<T>>(index: I, key: Key, options?: ReadOptions): Promise<Array<T[I]>> {
    return this.answer(
      (version) => this.#one(version, index, 'many', key, this.#takeValues) as Array<T[I]> | Promise<Array<T[I]>>,
      options,
    )
  }

  /** Whether an index of either kind has the key. */
  has(index: IndexOf<T>, key: Key, options?: ReadOptions): Promise<boolean> {
    return this.answer((version) => this.#one(version, index, null, key, takePresence), options)
  }

  /** The value's JSON as the database wrote it. */
  getBytes(index: IndexOf<T>, key: Key, options?: ReadOptions): Promise<Buffer | undefined> {
    return this.answer((version) => this.#one(version, index, 'unique', key, takeBytes), options)
  }

  /** The values' JSON as the database wrote it. */
  listBytes(index: IndexOf<T>, key: Key, options?: ReadOptions): Promise<Buffer[]> {
    return this.answer((version) => this.#one(version, index, 'many', key, takeAllBytes), options)
  }

  /** The values' JSON of several keys of an index of either kind, each key's in their order, in one read of the store; [] for a key without any. */
  getManyBytes(index: IndexOf<T>, keys: readonly Key[], options?: ReadOptions): Promise<Buffer[][]> {
    return this.answer((version) => {
      const at = this.#index(version, index, null)
      const bytes = keysBytes(keys, at)
      return lookUpAll(version, at, bytes, takeEveryBytes)
    }, options)
  }

  #one<R>(version: OpenVersion, name: string, kind: OpenIndex['kind'] | null, key: Key, take: Take<R>): R | Promise<R> {
    const index = this.#index(version, name, kind)
    return lookUp(version, index, keyBytes(key, index), take)
  }

  #index(version: OpenVersion, name: string, kind: OpenIndex['kind'] | null): OpenIndex {
    const index = version.indexes.get(name)
    if (index === undefined) {
      const { dataset } = version.source
      const known = [...version.indexes.keys()]
      throw new SnapflipError(
        'UNKNOWN_INDEX',
        `${dataset} at ${version.ref.tag} has no index ${JSON.stringify(name)}, expected one of ${known.join(', ')}.`,
        { dataset, tag: version.ref.tag, index: name, known },
      )
    }
    this.values.checkShape(index, kind)
    return index
  }

  readonly #takeValue = (raw: Buffer, key: Buffer, index: OpenIndex): unknown => {
    const bytes = lookup(raw, key)
    // Before it counts as read: what cannot be decoded is an error, and not an answer too.
    const value = bytes === undefined ? undefined : this.values.decode(bytes, index)
    countRead(index, key, bytes !== undefined)
    return value
  }

  readonly #takeValues = (raw: Buffer, key: Buffer, index: OpenIndex): unknown[] => {
    const values = lookupMany(raw, key).map((bytes) => this.values.decode(bytes, index))
    countRead(index, key, values.length > 0)
    return values
  }
}

const takePresence: Take<boolean> = (raw, key, index) => {
  const found = index.kind === 'unique' ? lookup(raw, key) !== undefined : lookupMany(raw, key).length > 0
  countRead(index, key, found)
  return found
}

/** Copies: a view would keep the whole block alive, or change the cached one when its owner writes to it. */
const takeBytes: Take<Buffer | undefined> = (raw, key, index) => {
  const bytes = lookup(raw, key)
  countRead(index, key, bytes !== undefined)
  return bytes === undefined ? undefined : Buffer.from(bytes)
}
const takeEveryBytes: Take<Buffer[]> = (raw, key, index, cached) => {
  if (index.kind === 'many') return takeAllBytes(raw, key, index, cached)
  const value = takeBytes(raw, key, index, cached)
  return value === undefined ? [] : [value]
}
const takeAllBytes: Take<Buffer[]> = (raw, key, index) => {
  const found = lookupMany(raw, key)
  countRead(index, key, found.length > 0)
  return found.map((bytes) => Buffer.from(bytes))
}
