import { setTimeout as sleep } from 'node:timers/promises'
import type { Manifest } from '../../schemas/manifest.ts'
import type { VersionRef } from '../../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { decodeManifest } from '../snapshot/manifest.ts'
import { bounded } from './bounded.ts'
import type { Follower, FollowerEvents } from './follower.ts'
import type { Freshness } from './freshness.ts'
import { MissingObject } from './missing-object.ts'
import type { Limits } from './options.ts'
import { Pin, type PinOptions, retired, takeLease } from './pin.ts'
import { Reads, type ValueTypes } from './reads.ts'
import type { Source } from './source.ts'
import type { Values } from './values.ts'
import { MissingManifest, type OpenVersion, sameVersion } from './version.ts'

/** Each time the version that had to answer was retired meanwhile. */
const READ_ATTEMPTS = 8
/** Each time the version to be pinned was retired before the lease was there. */
const PIN_ATTEMPTS = 5
const AT_LEAST_POLL_MS = 20
/** Tags whose ordinals are remembered for `atLeast`. */
const ORDINALS_MAX = 1000

type Read<R> = (version: OpenVersion) => R | Promise<R>

/** What `open` returns. Each call is answered whole by one version that was active within the follow lag; `pin` stays on one. */
export class Reader<T extends ValueTypes = ValueTypes> extends Reads<T> {
  readonly dataset: string
  protected readonly values: Values
  readonly #follower: Follower
  readonly #sources: readonly Source[]
  readonly #limits: Limits
  readonly #pins = new Set<Pin<T>>()
  readonly #ordinals = new Map<string, number>()
  #closed = false
  #retries = 0
  #staleAnswers = 0

  /** For `open`, which has started the follower. */
  constructor(dataset: string, follower: Follower, sources: readonly Source[], limits: Limits, values: Values) {
    super()
    this.dataset = dataset
    this.values = values
    this.#follower = follower
    this.#sources = sources
    this.#limits = limits
  }

  /** The version that answers unpinned reads now. */
  get version(): VersionRef {
    return this.#follower.serving.version.ref
  }

  get manifest(): Manifest {
    return this.#follower.serving.version.manifest
  }

  /** The store that answers now, without credentials. */
  get store(): string {
    return this.#follower.serving.source.store.url
  }

  /** How long ago the pointer was last known to name this version. */
  get ageMs(): number {
    return performance.now() - this.#follower.serving.version.confirmedAt
  }

  /** True while the pointer cannot be refreshed within the follow lag. */
  get stale(): boolean {
    return this.ageMs > this.#limits.followLagMs
  }

  /** Totals since `open`. */
  get counters(): Readonly<Record<string, number>> {
    const sum = (count: (source: Source) => number) => this.#sources.reduce((total, source) => total + count(source), 0)
    return {
      ...this.#follower.counters,
      retries: this.#retries,
      staleAnswers: this.#staleAnswers,
      pins: this.#pins.size,
      pageReads: sum((source) => source.tree.reads),
      blockReads: sum((source) => source.blocks.reads),
      blockCacheHits: sum((source) => source.blocks.cacheHits),
    }
  }

  /** `flip`: unpinned reads answer from another version. `stale`: they do not follow any more. `error`: why. */
  on<E extends keyof FollowerEvents>(event: E, listener: (...args: FollowerEvents[E]) => void): this {
    // The emitter's own listener type is a conditional type over E, which the compiler does not resolve here.
    this.#follower.events.on(event, listener as never)
    return this
  }

  off<E extends keyof FollowerEvents>(event: E, listener: (...args: FollowerEvents[E]) => void): this {
    this.#follower.events.off(event, listener as never)
    return this
  }

  /**
   * Stays on one version until `end`: the active one, or the one with `version`'s tag. Takes a lease, so that the version is not
   * deleted meanwhile; where the store refuses, the pin says `protected: false`. Throws VERSION_RETIRED, UNKNOWN_VERSION.
   */
  async pin(options: PinOptions = {}): Promise<Pin<T>> {
    for (let attempt = 1; ; attempt++) {
      this.#throwIfClosed()
      const version = options.version === undefined ? await this.#active() : await this.#named(options.version)
      // The version was opened by one of our sources.
      const source = version.source as Source
      const lease = await takeLease(source.store, version, options)
      if (lease.outcome === 'held') {
        const pin: Pin<T> = new Pin(version, source.store, lease, this.values, {
          standing: () => this.#standing(version),
          onEnd: () => this.#pins.delete(pin),
          onError: (error) => this.#follower.events.emit('error', error),
        })
        this.#pins.add(pin)
        return pin
      }
      if (options.version !== undefined || attempt === PIN_ATTEMPTS) throw lease.error
      await this.#follower.confirmGone(version)
    }
  }

  /** Ends its pins and closes its stores. Calls after it, and those under way, throw READER_CLOSED. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#follower.close()
    await Promise.all([...this.#pins].map((pin) => pin.end()))
    await Promise.all(this.#sources.map((source) => source.store.close()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  protected answer<R>(read: Read<R>, fresh: Freshness | undefined): Promise<R> {
    if (fresh !== undefined && fresh !== 'any') {
      return 'maxStaleMs' in fresh
        ? this.#answerFresh(read, fresh.maxStaleMs)
        : this.#answerAtLeast(read, fresh.atLeast)
    }
    const { version } = this.#follower.serving
    if (this.#closed || performance.now() - version.confirmedAt > this.#limits.followLagMs)
      return this.#answerLate(read)
    return this.#run(read, version, 1)
  }

  protected standing(version: OpenVersion): { ageMs: number; stale: boolean; store: string } {
    return this.#standing(version)
  }

  #standing(version: OpenVersion): { ageMs: number; stale: boolean; store: string } {
    const ageMs = performance.now() - version.confirmedAt
    return { ageMs, stale: this.stale, store: (version.source as Source).store.url }
  }

  #run<R>(read: Read<R>, version: OpenVersion, attempt: number): Promise<R> {
    try {
      const result = read(version)
      return result instanceof Promise
        ? result.catch((error: unknown) => this.#recover(error, read, version, attempt))
        : Promise.resolve(result)
    } catch (error) {
      return this.#recover(error, read, version, attempt)
    }
  }

  /**
   * A call that could not be answered by its version. When an object is missing, the pointer says whether the version was retired
   * meanwhile: then the whole call runs again on the next one. What a store cannot answer, another one may.
   */
  async #recover<R>(error: unknown, read: Read<R>, version: OpenVersion, attempt: number): Promise<R> {
    this.#throwIfClosed()
    let reason = error
    if (error instanceof MissingObject) {
      reason = error.asCorrupt()
      if (attempt < READ_ATTEMPTS) {
        const now = await this.#follower.confirmGone(version).catch((failure: unknown) => {
          reason = failure
          return version
        })
        this.#throwIfClosed()
        if (now !== version) return this.#again(read, now, attempt)
      }
    }
    const mayBeElsewhere =
      isSnapflipError(reason, 'STORE_UNREACHABLE') ||
      isSnapflipError(reason, 'CORRUPT') ||
      isSnapflipError(reason, 'NO_ACTIVE_VERSION')
    if (mayBeElsewhere && attempt < READ_ATTEMPTS) {
      const moved = await this.#follower.failOver(version.source as Source, reason)
      if (moved) return this.#again(read, this.#follower.serving.version, attempt)
    }
    this.#throwIfClosed()
    throw reason
  }

  #again<R>(read: Read<R>, version: OpenVersion, attempt: number): Promise<R> {
    this.#retries++
    return this.#run(read, version, attempt + 1)
  }

  /** The pointer was not confirmed within the follow lag: once more, then as declared. */
  async #answerLate<R>(read: Read<R>): Promise<R> {
    return this.#run(read, await this.#active(), 1)
  }

  async #active(): Promise<OpenVersion> {
    this.#throwIfClosed()
    if (!this.stale) return this.#follower.serving.version
    // When it has just failed, the next poll tries again; not every read, which would wait for a time-out each.
    if (this.#follower.failing === null) {
      await bounded(this.#follower.confirm(), this.#limits.commandTimeoutMs, () => undefined).catch(() => undefined)
      this.#throwIfClosed()
    }
    const { version } = this.#follower.serving
    const ageMs = performance.now() - version.confirmedAt
    if (ageMs <= this.#limits.followLagMs) return version
    this.#follower.tellStale(ageMs)
    if (this.#limits.onStale === 'error' && ageMs > this.#limits.staleAfterMs) {
      throw this.#tooStale(`refreshed within ${this.#limits.staleAfterMs} ms`, this.#follower.failing?.error)
    }
    this.#staleAnswers++
    return version
  }

  /** Reads block and pointer at the same time, and again only when the pointer has moved. */
  async #answerFresh<R>(read: Read<R>, maxStaleMs: number): Promise<R> {
    this.#throwIfClosed()
    const since = performance.now() - maxStaleMs
    const { version } = this.#follower.serving
    if (version.confirmedAt >= since) return this.#run(read, version, 1)
    const early = settled(() => read(version))
    const failure = await bounded(this.#follower.confirm(), this.#limits.waitMs, () =>
      this.#tooStale(`read within ${this.#limits.waitMs} ms`, undefined),
    ).then(
      () => null,
      (error: unknown) => ({ error }),
    )
    if (failure !== null) await this.#follower.failOver(version.source as Source, failure.error).catch(() => false)
    this.#throwIfClosed()
    const now = this.#follower.serving.version
    if (now.confirmedAt < since) throw this.#tooStale(`read at most ${maxStaleMs} ms before`, failure?.error)
    if (now !== version) return this.#run(read, now, 1)
    const result = await early
    return 'value' in result ? result.value : this.#recover(result.error, read, version, 1)
  }

  async #answerAtLeast<R>(read: Read<R>, tag: string): Promise<R> {
    const deadline = performance.now() + this.#limits.waitMs
    let failure: unknown
    for (;;) {
      this.#throwIfClosed()
      const { version } = this.#follower.serving
      try {
        if (version.ref.tag === tag || version.ref.ordinal >= (await this.#ordinalOf(tag))) {
          return await this.#run(read, this.#follower.serving.version, 1)
        }
        await bounded(this.#follower.confirm(), Math.max(1, deadline - performance.now()), () =>
          this.#tooStale(`at ${tag} or later`, undefined),
        )
      } catch (error) {
        if (!isSnapflipError(error) || !error.retryable) throw error
        failure = error
      }
      if (sameVersion(version.ref, this.version)) {
        if (performance.now() + AT_LEAST_POLL_MS > deadline) throw this.#tooStale(`at ${tag} or later`, failure)
        await sleep(AT_LEAST_POLL_MS)
      }
    }
  }

  /** Infinity while the store does not know the tag. */
  async #ordinalOf(tag: string): Promise<number> {
    const { source, pointer } = this.#follower.serving
    for (const ref of [pointer.active, pointer.previous]) if (ref?.tag === tag) return ref.ordinal
    const known = this.#ordinals.get(tag)
    if (known !== undefined) return known
    const bytes = await source.data.readManifest(tag)
    if (bytes === null) return Number.POSITIVE_INFINITY
    const { ordinal } = decodeManifest(bytes, { dataset: this.dataset, tag })
    if (this.#ordinals.size >= ORDINALS_MAX) this.#ordinals.clear()
    this.#ordinals.set(tag, ordinal)
    return ordinal
  }

  async #named(tag: string): Promise<OpenVersion> {
    const { source, version } = this.#follower.serving
    if (version.ref.tag === tag) return version
    try {
      return await source.open({ tag })
    } catch (error) {
      if (!(error instanceof MissingObject)) throw error
      // Objects go before the manifest that names them: a version that is being deleted is not a damaged one.
      if ((await source.store.pointer.read())?.pointer.retired.includes(tag))
        throw retired(this.dataset, tag, source.store)
      if (!(error instanceof MissingManifest)) throw error.asCorrupt()
      throw new SnapflipError(
        'UNKNOWN_VERSION',
        `${this.dataset} has no version ${tag} in ${source.store.url}, expected one that is retained; \`snapflip versions ${this.dataset}\` lists them.`,
        { dataset: this.dataset, tag, store: source.store.url },
      )
    }
  }

  #tooStale(expected: string, cause: unknown): SnapflipError {
    const { version, source } = this.#follower.serving
    const ageMs = Math.round(performance.now() - version.confirmedAt)
    const why = cause instanceof Error ? ` ${cause.message}` : ''
    return new SnapflipError(
      'READER_STALE',
      `Pointer of ${this.dataset} was last read ${ageMs} ms ago at ${version.ref.tag} in ${source.store.url}, expected it ${expected}.${why}`,
      { dataset: this.dataset, tag: version.ref.tag, ageMs, store: source.store.url },
      cause,
    )
  }

  #throwIfClosed(): void {
    if (!this.#closed) return
    throw new SnapflipError(
      'READER_CLOSED',
      `The reader of ${this.dataset} was closed, expected it open. Open another.`,
      {
        dataset: this.dataset,
      },
    )
  }
}

async function settled<R>(act: () => R | Promise<R>): Promise<{ value: R } | { error: unknown }> {
  try {
    return { value: await act() }
  } catch (error) {
    return { error }
  }
}
