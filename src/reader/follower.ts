import { EventEmitter } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Epoch, Pointer, VersionRef } from '../../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { compareEpoch, formatEpoch } from '../core/pointer.ts'
import type { PointerRead } from '../stores/ports.ts'
import { MissingObject } from './missing-object.ts'
import type { Limits } from './options.ts'
import type { Source } from './source.ts'
import { type OpenVersion, sameVersion } from './version.ts'

/** The pointer is polled this often within a follow lag: one poll may fail, or be late. */
const POLLS_A_LAG = 2.5
/** Pushes come through `watch`; what it polls itself only finds that a push was lost, and our own polls find that sooner. */
const WATCH_POLL_MS = 60_000
/** A store that does not answer is asked at most this much less often. */
const BACKOFF_MAX_MS = 5_000
const BACKOFF_FIRST_MS = 50
/** Each time the pointer has moved on while its version was being opened. */
const OPEN_ATTEMPTS = 5
/** A preferred store that failed is left alone this long before it is tried again. */
const REST_MS = 1_000
/** A store whose version was found damaged. */
const DAMAGED_REST_MS = 60_000

export interface FollowerEvents {
  flip: [{ from: VersionRef | null; to: VersionRef; epoch: Epoch; store: string }]
  /** The pointer could not be refreshed within the follow lag; once until it can again. */
  stale: [{ version: VersionRef; ageMs: number; store: string }]
  error: [unknown]
}

/** What a reader answers from now. Replaced as a whole, so that nobody sees half of a flip. */
export interface Serving {
  readonly version: OpenVersion
  readonly source: Source
  pointer: Pointer
}

/**
 * Follows the pointer: keeps `serving` at the active version, and knows since when that was last confirmed. A version is adopted
 * when its manifest and roots are there, never before, and never with a lower epoch than was seen, unless the version being
 * served is gone.
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
  #seen: Epoch | null = null
  /** Why the last attempt to confirm failed; null when it did not. */
  failing: { error: unknown } | null = null
  #scheduled: Promise<OpenVersion> | null = null
  #failingOver: Promise<boolean> | null = null
  #nap = new AbortController()
  #toldStale = false

  constructor(dataset: string, sources: readonly Source[], limits: Limits) {
    this.#dataset = dataset
    this.#sources = sources
    this.#limits = limits
    // Without a listener an 'error' event would be thrown.
    this.events.on('error', () => undefined)
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
          await this.#confirm(source, null)
          void this.#follow()
          return
        } catch (error) {
          // The preferred store's reason is the one to tell.
          failure ??= error
        }
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
        this.#confirm(this.serving.source, null).then(resolve, reject)
      })
    })
    return this.#scheduled
  }

  /** As `confirm`, when an object of `gone` is missing: then even a lower epoch is followed, for there is nothing else. */
  confirmGone(gone: OpenVersion): Promise<OpenVersion> {
    return this.#confirm(this.serving.source, gone)
  }

  /** True when another store serves now than the one that failed. */
  failOver(from: Source, reason: unknown): Promise<boolean> {
    if (this.serving.source !== from) return Promise.resolve(true)
    if (!this.severalStores) return Promise.resolve(false)
    this.#failingOver ??= this.#failOver(from, reason).finally(() => {
      this.#failingOver = null
    })
    return this.#failingOver
  }

  /** Tells, once, that answers are stale. */
  tellStale(ageMs: number): void {
    if (this.#toldStale) return
    this.#toldStale = true
    const { version, source } = this.serving
    this.events.emit('stale', { version: version.ref, ageMs, store: source.store.url })
  }

  close(): void {
    this.#closing.abort()
    this.#watching?.abort()
    this.#nap.abort()
  }

  async #confirm(source: Source, gone: OpenVersion | null): Promise<OpenVersion> {
    try {
      for (let attempt = 1; ; attempt++) {
        const sentAt = performance.now()
        this.counters.pointerReads++
        const read = await source.store.pointer.read()
        try {
          const version = await this.#consider(source, read, sentAt, gone)
          if (this.#serving?.source === source) this.failing = null
          return version
        } catch (error) {
          if (!(error instanceof MissingObject)) throw error
          // Retired while it was being opened, when the pointer has moved on; else damaged.
          const still = (await source.store.pointer.read())?.pointer.active
          if (attempt === OPEN_ATTEMPTS || still?.tag === error.where.tag) throw error.asCorrupt()
        }
      }
    } catch (error) {
      this.counters.pointerFailures++
      if (this.#serving?.source === source && !this.#closing.signal.aborted) {
        this.failing = { error }
        this.events.emit('error', error)
      }
      throw error
    }
  }

  async #consider(
    source: Source,
    read: PointerRead | null,
    sentAt: number,
    gone: OpenVersion | null,
  ): Promise<OpenVersion> {
    const pointer = read?.pointer ?? null
    const active = pointer?.active ?? null
    const serving = this.#serving
    if (pointer === null || active === null) throw this.#noActiveVersion(source)
    const mayGoBack = serving !== null && gone === serving.version && !sameVersion(active, gone.ref)
    this.#refuseLower(source, pointer, mayGoBack)
    if (serving?.source === source && sameVersion(active, serving.version.ref)) {
      this.#seen = pointer.epoch
      confirmAt(serving.version, sentAt)
      serving.pointer = pointer
      this.#toldStale = false
      return serving.version
    }
    const warmUntil = performance.now() + this.#limits.followLagMs / POLLS_A_LAG
    const version = await source.open(active, serving?.version ?? null, warmUntil)
    if (this.#serving !== serving) {
      // Another read of the pointer was followed meanwhile. What it found is at least as new, or this one decides anew.
      const now = this.#serving as Serving
      if (now.source !== source) return now.version
      if (compareEpoch(now.pointer.epoch, pointer.epoch) >= 0) {
        // The later flip came after our read of the earlier one, so its version was active after `sentAt` too.
        confirmAt(now.version, sentAt)
        return now.version
      }
    }
    confirmAt(version, sentAt)
    this.#adopt({ version, source, pointer })
    return version
  }

  #refuseLower(source: Source, pointer: Pointer, mayGoBack: boolean): void {
    if (this.#seen === null || mayGoBack || compareEpoch(pointer.epoch, this.#seen) >= 0) return
    this.counters.lowerEpochs++
    throw new SnapflipError(
      'READER_STALE',
      `Pointer of ${this.#dataset} in ${source.store.url} is at epoch ${formatEpoch(pointer.epoch)}, below ${formatEpoch(this.#seen)} that this reader has seen: ` +
        'an acknowledged flip was undone (failover, restore). The reader stays where it is until the reconciler has set the pointer again.',
      {
        dataset: this.#dataset,
        store: source.store.url,
        epoch: formatEpoch(pointer.epoch),
        seen: formatEpoch(this.#seen),
      },
    )
  }

  #noActiveVersion(source: Source): SnapflipError {
    return new SnapflipError(
      'NO_ACTIVE_VERSION',
      `${this.#dataset} has no active version in ${source.store.url}, expected one to read. Check the dataset's name; run: snapflip refresh ${this.#dataset}`,
      { dataset: this.#dataset, store: source.store.url },
    )
  }

  #adopt(next: Serving): void {
    const before = this.#serving
    this.#serving = next
    this.#seen = next.pointer.epoch
    this.#toldStale = false
    if (before?.source !== next.source) {
      this.failing = null
      this.#watch(next.source)
    }
    if (before !== null && sameVersion(before.version.ref, next.version.ref)) return
    this.counters.flips++
    this.events.emit('flip', {
      from: before?.version.ref ?? null,
      to: next.version.ref,
      epoch: next.pointer.epoch,
      store: next.source.store.url,
    })
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
        await this.#comeBack()
      } catch (error) {
        failures++
        if (await this.failOver(source, error).catch(() => false)) failures = 0
        else if (signal.aborted === false) {
          const ageMs = performance.now() - this.serving.version.confirmedAt
          if (ageMs > this.#limits.followLagMs) this.tellStale(ageMs)
        }
      }
    }
  }

  /** Goes on from the first other store that has an epoch as high as was seen; when none has, from the highest there is. */
  async #failOver(from: Source, reason: unknown): Promise<boolean> {
    const now = performance.now()
    from.restUntil = now + REST_MS
    if (isSnapflipError(reason, 'CORRUPT')) {
      from.damaged = this.serving.version.ref.manifest
      from.restUntil = now + DAMAGED_REST_MS
    }
    let lower: Serving | null = null
    for (const source of this.#sources) {
      if (source === from) continue
      const found = await this.#look(source)
      if (found === null) continue
      if (this.#seen === null || compareEpoch(found.pointer.epoch, this.#seen) >= 0) return this.#switchTo(found)
      if (lower === null || compareEpoch(found.pointer.epoch, lower.pointer.epoch) > 0) lower = found
    }
    return lower !== null && this.#switchTo(lower)
  }

  #switchTo(next: Serving): boolean {
    if (this.#closing.signal.aborted) return false
    this.counters.failovers++
    this.#adopt(next)
    return true
  }

  /** Returns to a store that is preferred to the one being served from, when it answers and is not behind. */
  async #comeBack(): Promise<void> {
    for (const source of this.#sources) {
      if (source === this.serving.source) return
      if (performance.now() < source.restUntil) continue
      source.restUntil = performance.now() + REST_MS
      const found = await this.#look(source)
      if (found === null || (this.#seen !== null && compareEpoch(found.pointer.epoch, this.#seen) < 0)) continue
      this.#switchTo(found)
      return
    }
  }

  /** What another store would serve; null when it cannot. */
  async #look(source: Source): Promise<Serving | null> {
    try {
      const sentAt = performance.now()
      const pointer = (await source.store.pointer.read())?.pointer
      const active = pointer?.active
      if (pointer == null || active == null) return null
      if (source.damaged === active.manifest && performance.now() < source.restUntil) return null
      const version = await source.open(active)
      confirmAt(version, sentAt)
      return { version, source, pointer }
    } catch (error) {
      source.restUntil = performance.now() + REST_MS
      this.events.emit('error', error instanceof MissingObject ? error.asCorrupt() : error)
      return null
    }
  }
}

function confirmAt(version: OpenVersion, sentAt: number): void {
  if (sentAt > version.confirmedAt) version.confirmedAt = sentAt
}

/** Worth waiting for at the start: the world may change by itself. */
function mayPass(error: unknown): boolean {
  return isSnapflipError(error) && error.retryable
}

function backoff(attempt: number): number {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10))
  return ceiling / 2 + Math.random() * (ceiling / 2)
}
