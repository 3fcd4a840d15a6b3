import { LATENCY_BOUNDS_MS } from '../../schemas/counters.ts'
import type { Manifest } from '../../schemas/manifest.ts'
import { tagSchema, type VersionRef } from '../../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { isExpired, pinInForce } from '../core/readers-on.ts'
import { isBuilding } from '../stores/build-leases.ts'
import { bounded } from './bounded.ts'
import type { Follower, FollowerEvents } from './follower.ts'
import { type Freshness, parseFreshness } from './freshness.ts'
import { exportMetrics, type MetricsRegistry } from './metrics.ts'
import { MissingObject } from './missing-object.ts'
import type { Limits } from './options.ts'
import { Ordinals } from './ordinals.ts'
import { Pin, type PinOptions, retired, takeLease } from './pin.ts'
import { type ReadOptions, Reads, type ValueTypes } from './reads.ts'
import type { Reporter } from './reporter.ts'
import { isOnCandidateSide } from './side.ts'
import type { Source } from './source.ts'
import { isUnavailable } from './standing.ts'
import type { Counting, Counts } from './tally.ts'
import type { Values } from './values.ts'
import { MissingManifest, type OpenVersion, sameContent } from './version.ts'

/** Each time the version that had to answer was retired meanwhile. */
const READ_ATTEMPTS = 8
/** Each time the version to be pinned was retired before the lease was there, or its store did not answer. */
const PIN_ATTEMPTS = 5
/** `atLeast` asks again after this, then after twice as long each time, up to this many times as long. A flip that is followed ends the wait. */
const AT_LEAST_POLL_MS = 20
const AT_LEAST_DOUBLINGS = 5
/** A tag that no store knows may be sealed within a moment, not later: together 620 ms. */
const UNKNOWN_POLLS = 5
/** One call in so many is timed; a power of two. */
const CALLS_TIMED = 16

type Read<R> = (version: OpenVersion) => R | Promise<R>
/** Throws READER_STALE when a version may not answer a call: asked of each version but the first, which was chosen by it. */
type Requirement = (version: OpenVersion) => void

/** What `open` returns. Each call is answered whole by one version that was active within the follow lag; `pin` stays on one. */
export class Reader<T extends ValueTypes = ValueTypes> extends Reads<T> {
  readonly dataset: string
  protected readonly values: Values
  readonly #follower: Follower
  readonly #sources: readonly Source[]
  readonly #limits: Limits
  readonly #pins = new Set<Pin<T>>()
  readonly #pinning = new Set<Promise<unknown>>()
  readonly #ordinals: Ordinals
  readonly #reporter: Reporter
  readonly #counts: Counts
  #closed = false
  #closing: Promise<void> | null = null
  #retries = 0
  #staleAnswers = 0
  #unavailable = 0
  #expiredAnswers = 0
  #candidateFallbacks = 0
  #calls = 0
  #endMetrics = () => {}

  /** For `open`, which has started the follower. */
  constructor(
    dataset: string,
    follower: Follower,
    sources: readonly Source[],
    limits: Limits,
    values: Values,
    { counting, reporter, metrics }: { counting: Counting; reporter: Reporter; metrics?: MetricsRegistry | undefined },
  ) {
    super()
    this.#counts = counting.all
    this.#reporter = reporter
    this.dataset = dataset
    this.values = values
    this.#follower = follower
    this.#sources = sources
    this.#limits = limits
    this.#ordinals = new Ordinals(dataset, sources)
    this.#ordinals.remember(this.version)
    follower.events.on('flip', ({ to }) => this.#ordinals.remember(to))
    if (metrics !== undefined) this.#endMetrics = exportMetrics(metrics, this, () => this.#isBuilding())
  }

  /** The version that answers unpinned reads now; while a canary runs, those without a key of their own (`for`). */
  get version(): VersionRef {
    return this.#chosen(undefined).ref
  }

  get manifest(): Manifest {
    return this.#chosen(undefined).manifest
  }

  /** The store that answers now, without credentials. */
  get store(): string {
    return this.#follower.serving.source.store.url
  }

  /** How long ago the pointer was last known to name this version; Infinity when it is older than what this reader has seen. */
  get ageMs(): number {
    return performance.now() - this.#follower.serving.version.confirmedAt
  }

  /** True while the pointer cannot be refreshed within the follow lag. */
  get stale(): boolean {
    return this.ageMs > this.#limits.followLagMs
  }

  /** True while the version is known to be current only up to longer ago than the dataset's budget. */
  get expired(): boolean {
    return this.#chosen(undefined).expired
  }

  /** How many of a sample of calls (one in 16) took at most each of `boundsMs`; one more count is of those that took longer. Since `open`. */
  get latencies(): { readonly boundsMs: readonly number[]; readonly counts: readonly number[] } {
    return { boundsMs: LATENCY_BOUNDS_MS, counts: [...this.#counts.latencyMs] }
  }

  /** Totals since `open`. */
  get counters(): Readonly<Record<string, number>> {
    const { latencyMs: _, ...counts } = this.#counts
    const sum = (count: (source: Source) => number) => this.#sources.reduce((total, source) => total + count(source), 0)
    return {
      ...this.#follower.counters,
      ...this.#reporter.counters,
      ...counts,
      candidateFallbacks: this.#candidateFallbacks,
      expiredAnswers: this.#expiredAnswers,
      retries: this.#retries,
      staleAnswers: this.#staleAnswers,
      unavailable: this.#unavailable,
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
   * The application's own signal that what it read is wrong: counts against the version of `about` (an entry, or a key as in `for`), else
   * against the one that answers now. One reader's word weighs little; a canary or bake is judged over all of them. False: that version
   * answers no more, so nothing was counted.
   */
  reportBad(about: { readonly version?: VersionRef; readonly for?: string } = {}): boolean {
    const { version, aside } = this.#follower.serving
    const { version: ref } = about
    const meant =
      ref === undefined
        ? this.#chosen(about.for)
        : [version, aside?.version].find((open) => open !== undefined && sameContent(open.ref, ref))
    meant?.tally.wasBad()
    return meant !== undefined
  }

  /**
   * Stays on one version until `end`: the active one, or the one with `version`'s tag. Takes a lease, so that the version is not
   * deleted meanwhile; where the store refuses, the pin says `protected: false`. Throws VERSION_RETIRED, UNKNOWN_VERSION.
   */
  async pin(options: PinOptions = {}): Promise<Pin<T>> {
    const pinning = this.#pin(options)
    this.#pinning.add(pinning)
    try {
      return await pinning
    } finally {
      this.#pinning.delete(pinning)
    }
  }

  async #pin(options: PinOptions): Promise<Pin<T>> {
    for (let attempt = 1; ; attempt++) {
      this.#throwIfClosed()
      const version = options.version === undefined ? await this.#active(undefined) : await this.#named(options.version)
      if (options.version === undefined && version.expired) this.#answerExpired(version)
      // The version was opened by one of our sources.
      const source = version.source as Source
      const lease = await takeLease(source.store, version, options).catch(async (error: unknown) => {
        if (options.version !== undefined || attempt === PIN_ATTEMPTS) throw error
        await this.#follower.insteadOf(version, error)
        return null
      })
      if (lease === null) continue
      if (lease.outcome === 'held') {
        const pin: Pin<T> = new Pin(version, source.store, lease, this.values, {
          standing: () => ({ ...this.standing(version, performance.now()), stale: this.stale }),
          onEnd: () => this.#pins.delete(pin),
          onFailure: (error) => this.#ended(error),
          onError: (error) => this.#follower.tell('error', error),
        })
        // `close` does not know of it yet, and waits.
        if (this.#closed) await pin.end()
        this.#throwIfClosed()
        this.#pins.add(pin)
        return pin
      }
      if (options.version !== undefined || attempt === PIN_ATTEMPTS) throw lease.error
      await this.#follower.confirmGone(version)
    }
  }

  /** Ends its pins and closes its stores. Calls after it, and those under way, throw READER_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#closed = true
    this.#endMetrics()
    this.#follower.close()
    const reported = this.#reporter.close()
    await Promise.allSettled(this.#pinning)
    await Promise.all([...this.#pins].map((pin) => pin.end()))
    await reported
    await Promise.all(this.#sources.map((source) => source.store.close()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Builds hold a lease on the version that they build upon. Null: this reader may not list leases. */
  #isBuilding(): Promise<boolean | null> {
    return isBuilding(this.#follower.serving.source.store).catch(() => null)
  }

  protected answer<R>(read: Read<R>, options: ReadOptions | undefined): Promise<R> {
    const key = options?.for
    const fresh = options?.fresh
    if (fresh !== undefined && fresh !== 'any') return this.#counted(this.#answerAs(read, fresh, key))
    const begunAt = performance.now()
    const version = this.#chosen(key)
    if (this.#closed || begunAt - version.confirmedAt > this.#limits.followLagMs)
      return this.#counted(this.#answerLate(read, key))
    const answer = this.#answerNow(read, version)
    if ((this.#calls++ & (CALLS_TIMED - 1)) === 0) this.#time(answer, version, begunAt)
    return answer
  }

  #time(answer: Promise<unknown>, { tally }: OpenVersion, begunAt: number): void {
    answer.then(
      () => tally.took(performance.now() - begunAt),
      () => undefined, // told to who asked
    )
  }

  /** The version of the side that a key is on, or the reader itself. */
  #chosen(key: string | undefined): OpenVersion {
    const { version, aside } = this.#follower.serving
    if (aside === null) return version
    const isOnCandidate = key === undefined ? aside.isOwn : isOnCandidateSide(key, aside.candidate)
    return isOnCandidate ? aside.version : version
  }

  protected standing(
    version: OpenVersion,
    begunAt: number,
  ): { ageMs: number; stale: boolean; expired: boolean; store: string } {
    // By the version that answered: the one served by now may be another.
    return {
      ageMs: performance.now() - version.confirmedAt,
      stale: begunAt - version.confirmedAt > this.#limits.followLagMs,
      expired: isExpired(this.#follower.serving.pointer.ttl, version.currentUpTo, Date.now()),
      store: (version.source as Source).store.url,
    }
  }

  async #answerAs<R>(read: Read<R>, fresh: Exclude<Freshness, 'any'>, key: string | undefined): Promise<R> {
    const wanted = parseFreshness(fresh)
    return 'maxStaleMs' in wanted
      ? this.#answerFresh(read, wanted.maxStaleMs, key)
      : this.#answerAtLeast(read, wanted.atLeast, key)
  }

  /** The way of nearly every call: nothing is made or awaited on it but what the read itself needs. */
  #answerNow<R>(read: Read<R>, version: OpenVersion): Promise<R> {
    try {
      const result = this.#ask(read, version)
      return result instanceof Promise
        ? result.catch((error: unknown) => this.#counted(this.#recover(error, read, version, this.#asDeclared)))
        : Promise.resolve(result)
    } catch (error) {
      return this.#counted(this.#recover(error, read, version, this.#asDeclared))
    }
  }

  #ask<R>(read: Read<R>, version: OpenVersion): R | Promise<R> {
    if (version.expired) this.#answerExpired(version)
    return read(version)
  }

  async #run<R>(read: Read<R>, version: OpenVersion, require: Requirement): Promise<R> {
    try {
      return await this.#ask(read, version)
    } catch (error) {
      return this.#recover(error, read, version, require)
    }
  }

  /** A call that could not be answered by its version runs again, as a whole, on what is served instead; if that may answer it. */
  async #recover<R>(error: unknown, read: Read<R>, version: OpenVersion, require: Requirement): Promise<R> {
    let [failure, failed] = [error, version]
    for (let attempt = 1; ; attempt++) {
      this.#throwIfClosed()
      if (attempt === READ_ATTEMPTS) throw failure instanceof MissingObject ? failure.asCorrupt() : failure
      failed = await this.#insteadOf(failed, failure).finally(() => this.#throwIfClosed())
      require(failed)
      this.#retries++
      try {
        return await this.#ask(read, failed)
      } catch (next) {
        failure = next
      }
    }
  }

  /** Counts a call that ends without an answer. */
  async #counted<R>(answer: Promise<R>): Promise<R> {
    try {
      return await answer
    } catch (error) {
      this.#ended(error)
      throw error
    }
  }

  #ended(error: unknown): void {
    if (isUnavailable(error)) this.#unavailable++
  }

  /** What a candidate cannot answer, the active version does, and it counts against the candidate. */
  async #insteadOf(version: OpenVersion, error: unknown): Promise<OpenVersion> {
    const { serving } = this.#follower
    if (version.isCandidate && version !== serving.version) {
      version.tally.failed(error)
      this.#candidateFallbacks++
      return serving.version
    }
    try {
      return await this.#follower.insteadOf(version, error)
    } catch (failure) {
      version.tally.failed(failure)
      throw failure
    }
  }

  /** A version beyond its budget: marked and counted, or refused, as the dataset declares. An operator's pin is a person's word and goes before. */
  #answerExpired(version: OpenVersion): void {
    const { pointer, source } = this.#follower.serving
    this.#expiredAnswers++
    const { ttl } = pointer
    if (ttl === null || ttl.beyond === 'mark' || pinInForce(pointer, Date.now()) !== null) return
    const upTo = new Date(version.currentUpTo).toISOString()
    throw new SnapflipError(
      'VERSION_EXPIRED',
      `${version.ref.tag} of ${this.dataset} in ${source.store.url} is known to be current up to ${upTo}, expected at most ${ttl.budgetMs} ms ago (its ttl, which says refuse). ` +
        `See why it is not refreshed: snapflip status ${this.dataset}`,
      {
        dataset: this.dataset,
        tag: version.ref.tag,
        currentUpTo: upTo,
        budgetMs: ttl.budgetMs,
        store: source.store.url,
      },
    )
  }

  /** The pointer was not confirmed within the follow lag: once more, then as declared. */
  async #answerLate<R>(read: Read<R>, key: string | undefined): Promise<R> {
    return this.#run(read, await this.#active(key), this.#asDeclared)
  }

  async #active(key: string | undefined): Promise<OpenVersion> {
    this.#throwIfClosed()
    if (!this.stale) return this.#chosen(key)
    // When it has just failed, the next poll tries again; not every read, which would wait for a time-out each.
    if (this.#follower.failing === null) {
      await bounded(this.#follower.confirm(), this.#limits.commandTimeoutMs, () => undefined).catch(() => undefined)
      this.#throwIfClosed()
    }
    if (!this.stale) return this.#chosen(key)
    // Whether the canary goes on is not known: both sides are back on the version that passed every gate.
    const { version } = this.#follower.serving
    this.#asDeclared(version)
    return version
  }

  /** What a reader without other wishes answers from when it cannot follow: as `onStale` says. */
  readonly #asDeclared: Requirement = (version) => {
    const ageMs = performance.now() - version.confirmedAt
    if (ageMs <= this.#limits.followLagMs) return
    this.#follower.tellStale(ageMs)
    if (this.#limits.onStale === 'error' && ageMs > this.#limits.staleAfterMs) {
      throw this.#tooStale(`refreshed within ${this.#limits.staleAfterMs} ms`, this.#follower.failing?.error)
    }
    this.#staleAnswers++
  }

  /** Reads block and pointer at the same time, and again only when the pointer has moved. */
  async #answerFresh<R>(read: Read<R>, maxStaleMs: number, key: string | undefined): Promise<R> {
    this.#throwIfClosed()
    const since = performance.now() - maxStaleMs
    let cause: unknown
    const require: Requirement = ({ confirmedAt }) => {
      if (confirmedAt < since) throw this.#tooStale(`read at most ${maxStaleMs} ms before`, cause)
    }
    const version = this.#chosen(key)
    if (version.confirmedAt >= since) return this.#run(read, version, require)
    const early = settled(() => read(version))
    await bounded(this.#refresh(), this.#limits.waitMs, () =>
      this.#tooStale(`read within ${this.#limits.waitMs} ms`, undefined),
    ).catch((error: unknown) => {
      cause = error
    })
    this.#throwIfClosed()
    const now = this.#chosen(key)
    require(now)
    if (now !== version) return this.#run(read, now, require)
    if (now.expired) this.#answerExpired(now)
    const result = await early
    return 'value' in result ? result.value : this.#recover(result.error, read, version, require)
  }

  /** Reads the pointer; when its store cannot be followed, another one's. */
  async #refresh(): Promise<void> {
    const { source } = this.#follower.serving
    try {
      await this.#follower.confirm()
    } catch (error) {
      if (!(await this.#follower.failOver(source, error, 'confirmed'))) throw error
    }
  }

  async #answerAtLeast<R>(read: Read<R>, wanted: string | VersionRef, key: string | undefined): Promise<R> {
    const deadline = performance.now() + this.#limits.waitMs
    const tag = typeof wanted === 'string' ? wanted : wanted.tag
    let ordinal = typeof wanted === 'string' ? null : wanted.ordinal
    let failure: unknown
    // What is behind does not count: later versions were seen, and maybe taken back.
    const reaches = ({ ref, confirmedAt }: OpenVersion) =>
      ordinal !== null && ref.ordinal >= ordinal && confirmedAt !== Number.NEGATIVE_INFINITY
    const require: Requirement = (version) => {
      if (!reaches(version)) throw this.#tooStale(`at ${tag} or later`, failure)
    }
    for (let polls = 0; ; polls++) {
      this.#throwIfClosed()
      failure = undefined
      try {
        ordinal ??= await this.#ordinals.of(tag, this.#follower.serving)
        if (!reaches(this.#chosen(key))) {
          await bounded(this.#refresh(), Math.max(1, deadline - performance.now()), () =>
            this.#tooStale(`at ${tag} or later`, undefined),
          )
        }
        const version = this.#chosen(key)
        if (reaches(version)) return await this.#run(read, version, require)
      } catch (error) {
        if (!isSnapflipError(error) || !error.retryable || error.code === 'VERSION_EXPIRED') throw error
        failure = error
      }
      const leftMs = deadline - performance.now()
      // A store that did not answer may know the tag.
      if (ordinal === null && failure === undefined && (polls >= UNKNOWN_POLLS || leftMs <= AT_LEAST_POLL_MS))
        throw this.#unknown(tag, " Of one that may be deleted by then, give the whole ref: a reader's `version`.")
      if (leftMs <= AT_LEAST_POLL_MS) throw this.#tooStale(`at ${tag} or later`, failure)
      await this.#follower.flipWithin(Math.min(AT_LEAST_POLL_MS * 2 ** Math.min(polls, AT_LEAST_DOUBLINGS), leftMs))
    }
  }

  async #named(tag: string): Promise<OpenVersion> {
    const { source, version, aside } = this.#follower.serving
    for (const open of [version, aside?.version]) if (open?.ref.tag === tag) return open
    if (!tagSchema.safeParse(tag).success) throw this.#unknown(tag)
    try {
      return await source.open({ tag })
    } catch (error) {
      if (!(error instanceof MissingObject)) throw error
      // Objects go before the manifest that names them: a version that is being deleted is not a damaged one.
      if ((await source.store.pointer.read())?.pointer.retired.includes(tag))
        throw retired(this.dataset, tag, source.store)
      if (!(error instanceof MissingManifest)) throw error.asCorrupt()
      throw this.#unknown(tag)
    }
  }

  #unknown(tag: string, besides = ''): SnapflipError {
    return new SnapflipError(
      'UNKNOWN_VERSION',
      `${this.dataset} has no version ${tag || "''"} in ${this.store}, expected one that is retained; \`snapflip versions ${this.dataset}\` lists them.${besides}`,
      { dataset: this.dataset, tag, store: this.store },
    )
  }

  #tooStale(expected: string, cause: unknown): SnapflipError {
    const { version, source } = this.#follower.serving
    const ageMs = Math.round(performance.now() - version.confirmedAt)
    const last = Number.isFinite(ageMs)
      ? `was last read ${ageMs} ms ago at ${version.ref.tag}`
      : `was never seen at ${version.ref.tag}`
    const why = cause instanceof Error ? ` ${cause.message}` : ''
    return new SnapflipError(
      'READER_STALE',
      `Pointer of ${this.dataset} ${last} in ${source.store.url}, expected it ${expected}.${why}`,
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
