import type { Pointer } from '../../schemas/pointer.ts'
import { compareEpoch } from '../core/pointer.ts'
import { readersOn } from '../core/readers-on.ts'
import type { HighestSeen } from './highest-seen.ts'
import { MissingObject } from './missing-object.ts'
import type { Source } from './source.ts'
import { confirmAt, isWorse, type Serving, type Standing, unreachable } from './standing.ts'
import { MissingManifest, sameContent } from './version.ts'

/** A preferred store that failed is left alone this long before it is tried again. */
const REST_MS = 1_000

/** What the follower knows and does: it alone says what is served. */
export interface Following {
  /** Null before the first version. */
  serving(): Serving | null
  /** What was confirmed last. */
  newest(): Serving | null
  isClosed(): boolean
  readonly seen: HighestSeen
  switchTo(next: Serving, reason: unknown): void
  tellError(error: unknown): void
}

/**
 * Finds something else to serve when what is served cannot go on: another store, or another version of the same one; and the way back
 * to a preferred store.
 */
export class FailOver {
  readonly #sources: readonly Source[]
  readonly #following: Following
  #running: { reach: Standing; done: Promise<boolean> } | null = null

  constructor(sources: readonly Source[], following: Following) {
    this.#sources = sources
    this.#following = following
  }

  /** True when something else is served now than what failed, with a standing no worse than `reach`. */
  async from(failed: Source, reason: unknown, reach: Standing): Promise<boolean> {
    for (;;) {
      if (this.#following.serving()?.source !== failed) return true
      const running = this.#running
      if (running === null) break
      if ((await running.done) || !isWorse(reach, running.reach)) return running.done
    }
    const done = this.search(failed, reason, reach).finally(() => {
      this.#running = null
    })
    this.#running = { reach, done }
    return done
  }

  /** Goes on from another store, or from another version of the same one; the better standing first, then the preferred store. */
  async search(failed: Source | null, reason: unknown, reach: Standing): Promise<boolean> {
    const silent = unreachable(reason)
    if (silent && failed !== null) failed.restUntil = performance.now() + REST_MS
    const asked = this.#sources.filter((source) => !(silent && source === failed))
    const offers = (await Promise.all(asked.map((source) => this.#ask(source)))).filter((offer) => offer !== null)
    for (const offer of offers) {
      const next = await this.#openConfirmed(offer)
      if (next !== null) return this.#switchTo(next, reason)
    }
    if (reach === 'confirmed') return false
    for (const offer of offers) {
      const next = await this.#openKept(offer)
      if (next !== null) return this.#switchTo(next, reason)
    }
    if (reach === 'kept') return false
    for (const offer of offers.toSorted(byEpochDown)) {
      const next = await this.#openBehind(offer)
      if (next !== null) return this.#switchTo(next, reason)
    }
    return false
  }

  /** Returns to a store that is preferred to the one being served from, when it answers and is not behind. */
  async comeBack(): Promise<void> {
    for (const source of this.#sources) {
      if (source === this.#following.serving()?.source) return
      if (performance.now() < source.restUntil) continue
      source.restUntil = performance.now() + REST_MS
      const offer = await this.#ask(source)
      const next = offer === null ? null : await this.#openConfirmed(offer)
      if (next === null) continue
      this.#switchTo(next, null)
      return
    }
  }

  #switchTo(next: Serving, reason: unknown): boolean {
    if (this.#following.isClosed()) return false
    this.#following.switchTo(next, reason)
    return true
  }

  /** What a store says now; null when it does not answer. */
  #ask(source: Source): Promise<Offer | null> {
    return this.#orTell(source, async () => {
      const sentAt = performance.now()
      const pointer = (await source.store.pointer.read())?.pointer ?? null
      if (pointer?.active != null) this.#following.seen.see(pointer)
      return { source, sentAt, pointer }
    })
  }

  async #openConfirmed({ source, pointer, sentAt }: Offer): Promise<Serving | null> {
    const named = pointer === null ? null : readersOn(pointer, Date.now())
    if (pointer === null || named === null || this.#following.seen.isAbove(pointer)) return null
    if (source.isDamaged(named, performance.now())) return null
    return this.#orTell(source, async () => {
      const version = await source.open(named)
      const newest = this.#following.newest()
      // A later flip was followed meanwhile.
      if (newest !== null && compareEpoch(pointer.epoch, newest.pointer.epoch) < 0) return null
      confirmAt(version, sentAt)
      return { version, source, standing: 'confirmed', pointer, readAt: sentAt, aside: null }
    })
  }

  /** The version that was confirmed last, where it is retained. */
  async #openKept({ source, pointer }: Offer): Promise<Serving | null> {
    const newest = this.#following.newest()
    const serving = this.#following.serving()
    if (newest === null || (source === serving?.source && serving.standing !== 'behind')) return null
    const { ref, confirmedAt } = newest.version
    if (pointer?.retired.includes(ref.tag) || pointer?.quarantined.includes(ref.tag)) return null
    return this.#orTell(source, async () => {
      const version = await source.open({ tag: ref.tag }).catch(unlessMissing)
      if (version === null || !sameContent(version.ref, ref) || source.isDamaged(version.ref, performance.now()))
        return null
      confirmAt(version, confirmedAt)
      return { ...newest, version, source, standing: 'kept', aside: null }
    })
  }

  async #openBehind({ source, pointer, sentAt }: Offer): Promise<Serving | null> {
    const named = pointer === null ? null : readersOn(pointer, Date.now())
    if (pointer === null || named === null || !this.#following.seen.mayServeBehind(source, named)) return null
    return this.#orTell(source, async () => {
      const version = await source.open(named)
      return { version, source, standing: 'behind', pointer, readAt: sentAt, aside: null }
    })
  }

  async #orTell<T>(source: Source, look: () => Promise<T>): Promise<T | null> {
    try {
      return await look()
    } catch (error) {
      source.restUntil = performance.now() + REST_MS
      if (!this.#following.isClosed())
        this.#following.tellError(error instanceof MissingObject ? error.asCorrupt() : error)
      return null
    }
  }
}

interface Offer {
  source: Source
  /** performance.now() when the pointer was asked for. */
  sentAt: number
  pointer: Pointer | null
}

function byEpochDown(a: Offer, b: Offer): number {
  if (a.pointer === null || b.pointer === null) return Number(a.pointer === null) - Number(b.pointer === null)
  return compareEpoch(b.pointer.epoch, a.pointer.epoch)
}

/** A store need not have a version that its pointer does not name. */
function unlessMissing(error: unknown): null {
  if (error instanceof MissingManifest) return null
  throw error
}
