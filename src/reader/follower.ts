import { EventEmitter } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Epoch, Pointer, Ttl, VersionRef } from '../../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { compareEpoch } from '../core/pointer.ts'
import { currentUpTo, isExpired, readersOn } from '../core/readers-on.ts'
import type { PointerRead } from '../stores/ports.ts'
import { CandidateSide } from './candidate-side.ts'
import { FailOver } from './fail-over.ts'
import { HighestSeen } from './highest-seen.ts'
import { MissingObject } from './missing-object.ts'
import type { Limits } from './options.ts'
import type { Source } from './source.ts'
import { confirmAt, type Serving, type Standing, unreachable } from './standing.ts'
import { type OpenVersion, sameContent, sameVersion } from './version.ts'

/** The pointer is polled this often within a follow lag: one poll may fail, or be late. */
const POLLS_A_LAG = 2.5
/** Pushes come through `watch`; what it polls itself only finds that a push was lost, and our own polls find that sooner. */
const WATCH_POLL_MS = 60_000
/** A store that does not answer is asked at most this much less often. */
const BACKOFF_MAX_MS = 5_000
const BACKOFF_FIRST_MS = 50
/** Each time the pointer has moved on while its version was being opened. */
const OPEN_ATTEMPTS = 5
/** A store whose version was found damaged. */
const DAMAGED_REST_MS = 60_000

/** What a reader tells of itself, by event: its arguments. */
export interface FollowerEvents {
  /** Unpinned reads answer from another version; `from` is null at the first. */
  flip: [{ from: VersionRef | null; to: VersionRef; epoch: Epoch; store: string }]
  /** The pointer could not be refreshed within the follow lag; once until it can again. */
  stale: [{ version: VersionRef; ageMs: number; store: string }]
  /** The version is known to be current only up to longer ago than the dataset's budget; once until it is within it again. */
  expired: [{ version: VersionRef; currentUpTo: Date; budgetMs: number; store: string }]
  /** What went wrong, when reads still answer too: a store that does not, a pointer below the epoch that was seen. */
  error: [unknown]
}

/**
 * Follows the pointer: keeps `serving` at the active version, and knows since when that was last confirmed. A version is adopted
 * when its manifest and roots are there, never before. The highest epoch that was seen never falls: what a store names at a lower
 * one is served only when the version of that epoch is gone, or its store does not answer, and no other store has it.
 *
 * | what failed                                        | is served instead, from the first store that has it |
 * |----------------------------------------------------|-----------------------------------------------------|
 * | a poll: no pointer, a lower epoch, a bad version    | a confirmed version                                 |
 * | a poll: the store does not answer                  | a confirmed version, the version kept               |
 * | a read: the store answers for its pointer alone    | a confirmed version, the version kept               |
 * | a read: the store does not answer at all           | a confirmed version, the version kept, one behind   |
 * | a read: the version is gone or damaged             | a confirmed version, the version kept, one behind   |
 */
export class Follower {
  readonly events = new EventEmitter<FollowerEvents>()
  readonly counters = { pointerReads: 0, pointerFailures: 0, flips: 0, failovers: 0, lowerEpochs: 0 }
  readonly #dataset: string
  readonly #sources: readonly Source[]
  readonly #limits: Limits
  readonly #closing = new AbortController()
  #watching: AbortController | null = null
  #serving: Serving | null = null
  /** What was confirmed last. */
  #newest: Serving | null = null
  readonly #seen: HighestSeen
  /** Why the last attempt to confirm failed; null when it did not. */
  failing: { error: unknown } | null = null
  #scheduled: Promise<OpenVersion> | null = null
  readonly #failOver: FailOver
  readonly #candidateSide: CandidateSide
  #nap = new AbortController()
  #toldStale = false
  #toldExpired = false
  /** Called with what is served now, after each pointer that was followed. */
  onServing: (serving: Serving) => void = () => undefined
  /** Called when the candidate of a canary could not be opened. */
  onCandidateFailure: (canaryId: string) => void = () => undefined

  constructor(dataset: string, sources: readonly Source[], limits: Limits) {
    this.#dataset = dataset
    this.#sources = sources
    this.#limits = limits
    this.#seen = new HighestSeen(dataset)
    this.#failOver = new FailOver(sources, {
      serving: () => this.#serving,
      newest: () => this.#newest,
      isClosed: () => this.#closing.signal.aborted,
      seen: this.#seen,
      switchTo: (next, reason) => this.#switchTo(next, reason),
      tellError: (error) => this.tell('error', error),
    })
    this.#candidateSide = new CandidateSide(limits.key, {
      opened: (source, canaryId, version) => this.#openedAside(source, canaryId, version),
      failed: (canaryId, error) => {
        if (this.#closing.signal.aborted) return
        this.onCandidateFailure(canaryId)
        this.tell('error', error)
      },
    })
    // Without a listener an 'error' event would be thrown.
    this.events.on('error', () => undefined)
    // Each read that waits for a flip listens.
    this.events.setMaxListeners(0)
  }

  /** Only after `start`. */
  get serving(): Serving {
    if (this.#serving === null) throw new SnapflipError('INTERNAL', 'The reader was asked before it was started.')
    return this.#serving
  }

  get severalStores(): boolean {
    return this.#sources.length > 1
  }

  /** Finds a first version to serve, from the first store that has one, then keeps following. */
  async start(): Promise<void> {
    const deadline = performance.now() + this.#limits.waitMs
    for (let attempt = 0; ; attempt++) {
      let failure: unknown
      for (const source of this.#sources) {
        try {
          await this.#confirm(source)
          void this.#follow()
          return
        } catch (error) {
          // The preferred store's reason is the one to tell.
          failure ??= error
        }
      }
      // A store named a version that it cannot give: another one's is served with a mark, if it is behind that.
      if (!this.#seen.isNone && (await this.#failOver.search(null, failure, 'behind'))) {
        void this.#follow()
        return
      }
      const waitMs = backoff(attempt)
      if (this.#limits.start === 'fail' || !mayPass(failure) || performance.now() + waitMs > deadline) throw failure
      await sleep(waitMs)
    }
  }

  /** Reads the pointer, after now, and returns the version it names: once for all who ask in one tick. */
  confirm(): Promise<OpenVersion> {
    this.#scheduled ??= new Promise((resolve, reject) => {
      process.nextTick(() => {
        this.#scheduled = null
        this.#confirm(this.serving.source).then(resolve, reject)
      })
    })
    return this.#scheduled
  }

  /** As `confirm`, when `gone` was retired before it could be pinned. */
  confirmGone(gone: OpenVersion): Promise<OpenVersion> {
    const { version, aside, source } = this.serving
    return gone === version || gone === aside?.version ? this.#confirm(source) : Promise.resolve(version)
  }

  /** What answers a read that a version could not answer. Throws why it could not, when there is nothing else. */
  async insteadOf(version: OpenVersion, error: unknown): Promise<OpenVersion> {
    const from = version.source as Source
    const missing = error instanceof MissingObject
    let reason = missing ? error.asCorrupt() : error
    const gone = isSnapflipError(reason, 'CORRUPT')
    if (!gone && !unreachable(reason)) throw reason
    if (this.serving.version !== version) return this.serving.version
    if (missing) {
      // The pointer says whether it was retired meanwhile; else it is damaged.
      try {
        const now = await this.#confirm(from)
        if (now !== version) return now
      } catch (failure) {
        reason = failure
      }
    }
    if (gone) from.leaveDamaged(version.ref, performance.now() + DAMAGED_REST_MS)
    if (await this.failOver(from, reason, gone ? 'behind' : 'kept')) return this.serving.version
    // What a store that answers for its pointer confirms is not replaced by something older.
    const silent = !gone && this.severalStores && (await this.#isSilent(from))
    if (silent && (await this.failOver(from, reason, 'behind'))) return this.serving.version
    if (this.serving.version !== version) return this.serving.version
    throw reason
  }

  /** True when something else is served now than what failed, with a standing no worse than `reach`. */
  async failOver(from: Source, reason: unknown, reach: Standing): Promise<boolean> {
    // One store has something else to offer only when what it served is gone.
    if (!this.severalStores && reach !== 'behind' && this.serving.standing !== 'behind') return false
    return this.#failOver.from(from, reason, reach)
  }

  /** Resolves at the next flip that is followed, after `ms` at the latest. */
  flipWithin(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.events.off('flip', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.events.on('flip', done)
    })
  }

  /** What a listener throws is thrown where it disturbs nothing here: neither a read, nor the following itself. */
  tell<E extends keyof FollowerEvents>(event: E, ...args: FollowerEvents[E]): void {
    try {
      // The emitter's own type of the arguments is a conditional type over E, which the compiler does not resolve here.
      this.events.emit(event, ...(args as never))
    } catch (error) {
      queueMicrotask(() => {
        throw error
      })
    }
  }

  /** Tells, once, that answers are stale. */
  tellStale(ageMs: number): void {
    if (this.#toldStale) return
    this.#toldStale = true
    const { version, source } = this.serving
    this.tell('stale', { version: version.ref, ageMs, store: source.store.url })
  }

  close(): void {
    this.#closing.abort()
    this.#watching?.abort()
    this.#nap.abort()
  }

  async #confirm(source: Source): Promise<OpenVersion> {
    try {
      for (let attempt = 1; ; attempt++) {
        const sentAt = performance.now()
        this.counters.pointerReads++
        const read = await source.store.pointer.read()
        // Overtaken by a later read: that flip was not undone, it was not made yet.
        if (this.#seen.isAbove(read?.pointer) && this.#seen.isSince(sentAt) && attempt < OPEN_ATTEMPTS) continue
        try {
          const version = await this.#consider(source, read, sentAt)
          if (this.#serving?.source === source) this.failing = null
          return version
        } catch (error) {
          if (!(error instanceof MissingObject)) throw error
          // Retired while it was being opened, when the pointer has moved on; else damaged.
          const pointer = (await source.store.pointer.read())?.pointer
          const still = pointer === undefined ? null : readersOn(pointer, Date.now())
          if (attempt === OPEN_ATTEMPTS || still?.tag === error.where.tag) throw error.asCorrupt()
        }
      }
    } catch (error) {
      this.counters.pointerFailures++
      if (this.#serving?.source === source && !this.#closing.signal.aborted) {
        this.failing = { error }
        this.tell('error', error)
      }
      throw error
    }
  }

  async #consider(source: Source, read: PointerRead | null, sentAt: number): Promise<OpenVersion> {
    const pointer = read?.pointer ?? null
    const named = pointer === null ? null : readersOn(pointer, Date.now())
    const serving = this.#serving
    if (pointer === null || named === null) throw this.#noActiveVersion(source)
    this.#seen.see(pointer)
    if (this.#seen.isAbove(pointer)) {
      await this.#followBehind(source, pointer, named)
      this.counters.lowerEpochs++
      throw this.#seen.refusal(source, pointer)
    }
    const warmUntil = performance.now() + this.#limits.followLagMs / POLLS_A_LAG
    const open = openHere(serving, source, named)
    const version = open ?? (await source.open(named, serving?.version ?? null, warmUntil))
    const now = this.#serving
    if (now !== null && now !== serving && now.source !== source) {
      // Another store is served from meanwhile. What was found there is at least as new, or this one decides anew.
      return now.version
    }
    if (now !== null && this.#isOvertaken(now, pointer, sentAt)) {
      // A later flip came after our read of the earlier one, so its version was active after `sentAt` too.
      confirmAt(now.version, sentAt)
      return now.version
    }
    confirmAt(version, sentAt)
    const aside = this.#candidateSide.of(source, pointer, sentAt, this.#serving?.aside ?? null)
    this.#adopt({ version, source, standing: 'confirmed', pointer, readAt: sentAt, aside })
    return version
  }

  /** A later flip is followed already; or, as a pin or a canary is no flip, what a later read of the pointer found. */
  #isOvertaken(now: Serving, pointer: Pointer, sentAt: number): boolean {
    if (now.standing !== 'confirmed') return false
    const order = compareEpoch(now.pointer.epoch, pointer.epoch)
    return order > 0 || (order === 0 && now.readAt > sentAt)
  }

  #openedAside(source: Source, canaryId: string, version: OpenVersion): void {
    const now = this.#serving
    const candidate = now?.source === source && now.standing === 'confirmed' ? now.pointer.candidate : null
    if (now === null || candidate?.canaryId !== canaryId) return
    comesAfter(now.version, version)
    this.#adopt({ ...now, aside: this.#candidateSide.aside(version, candidate) })
  }

  /** A reader that already answers from behind goes forward with the pointer it answers by. */
  async #followBehind(source: Source, pointer: Pointer, named: VersionRef): Promise<void> {
    const { serving } = this
    const readAt = performance.now()
    if (serving.source !== source || serving.standing !== 'behind') return
    if (compareEpoch(pointer.epoch, serving.pointer.epoch) <= 0 || !this.#seen.mayServeBehind(source, named)) return
    const version = await source.open(named, serving.version)
    if (this.#serving === serving) this.#adopt({ version, source, standing: 'behind', pointer, readAt, aside: null })
  }

  #noActiveVersion(source: Source): SnapflipError {
    return new SnapflipError(
      'NO_ACTIVE_VERSION',
      `${this.#dataset} has no active version in ${source.store.url}, expected one to read. Check the dataset's name; run: snapflip refresh ${this.#dataset}`,
      { dataset: this.#dataset, store: source.store.url },
    )
  }

  #adopt(next: Serving, failure: unknown = null): void {
    const before = this.#serving
    this.#serving = next
    if (before !== null) comesAfter(before.version, next.version)
    if (next.standing === 'confirmed') {
      this.#newest = next
      this.#toldStale = false
    }
    if (before?.source !== next.source) {
      // Known not to be confirmed by its store: reads need not ask before they answer with a mark.
      this.failing = next.standing === 'confirmed' ? null : { error: failure }
      this.#watch(next.source)
    }
    this.#expire()
    this.onServing(next)
    if (before !== null && sameContent(before.version.ref, next.version.ref)) return
    this.counters.flips++
    this.tell('flip', {
      from: before?.version.ref ?? null,
      to: next.version.ref,
      epoch: next.pointer.epoch,
      store: next.source.store.url,
    })
  }

  /** Marks what is served by how long ago it is known to be current; tells once until that is within the budget again. */
  #expire(): void {
    const serving = this.#serving
    if (serving === null) return
    const { pointer, version, aside, source } = serving
    for (const open of aside === null ? [version] : [version, aside.version]) {
      open.currentUpTo = currentUpTo(pointer, open.manifest)
      open.expired = isExpired(pointer.ttl, open.currentUpTo, Date.now())
    }
    if (version.expired && !this.#toldExpired)
      this.tell('expired', {
        version: version.ref,
        currentUpTo: new Date(version.currentUpTo),
        budgetMs: (pointer.ttl as Ttl).budgetMs,
        store: source.store.url,
      })
    this.#toldExpired = version.expired
  }

  #watch(source: Source): void {
    this.#watching?.abort()
    if (this.#closing.signal.aborted) return
    this.#watching = new AbortController()
    source.store.pointer.watch({
      pollMs: WATCH_POLL_MS,
      signal: this.#watching.signal,
      // It does not say when it read, so it confirms nothing: it is the sign to read.
      onPointer: () => this.#nap.abort(),
      onError: () => undefined, // our own polling tells
    })
  }

  async #follow(): Promise<void> {
    const { signal } = this.#closing
    let failures = 0
    while (!signal.aborted) {
      const pollMs = this.#limits.followLagMs / POLLS_A_LAG
      const waitMs = failures === 0 ? pollMs : Math.max(pollMs, backoff(failures))
      await sleep(waitMs, undefined, { signal: this.#nap.signal, ref: false }).catch(() => undefined)
      if (signal.aborted) return
      this.#nap = new AbortController()
      const { source } = this.serving
      try {
        await this.confirm()
        failures = 0
        await this.#failOver.comeBack()
      } catch (error) {
        failures++
        this.#expire()
        const reach = unreachable(error) || this.serving.standing === 'behind' ? 'kept' : 'confirmed'
        if (await this.failOver(source, error, reach).catch(() => false)) failures = 0
        const ageMs = performance.now() - this.serving.version.confirmedAt
        if (!signal.aborted && ageMs > this.#limits.followLagMs) this.tellStale(ageMs)
      }
    }
  }

  #switchTo(next: Serving, reason: unknown): void {
    if (this.#serving !== null && next.source !== this.#serving.source) this.counters.failovers++
    this.#adopt(next, reason)
  }

  /** Whether a store that did not answer a read does not answer for its pointer either. */
  async #isSilent(source: Source): Promise<boolean> {
    if (this.failing !== null) return unreachable(this.failing.error)
    return this.#confirm(source).then(() => false, unreachable)
  }
}

/** What readers had before counts against a version that lacks it; also when it is opened anew, in another store. */
function comesAfter(before: OpenVersion, next: OpenVersion): void {
  if (before === next) return
  const { indexesBefore } = before.tally
  const isSame = sameContent(before.ref, next.ref)
  next.tally.indexesBefore = isSame ? indexesBefore : new Set(before.indexes.keys())
}

/** The version when it is open already: the one that is served, or the canary's candidate that was flipped to. */
function openHere(serving: Serving | null, source: Source, named: VersionRef): OpenVersion | null {
  if (serving === null || serving.source !== source) return null
  if (sameVersion(named, serving.version.ref)) return serving.version
  return serving.aside !== null && sameVersion(named, serving.aside.version.ref) ? serving.aside.version : null
}

/** Worth waiting for at the start: the world may change by itself. */
function mayPass(error: unknown): boolean {
  return isSnapflipError(error) && error.retryable
}

function backoff(attempt: number): number {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10))
  return ceiling / 2 + Math.random() * (ceiling / 2)
}
