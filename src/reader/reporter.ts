import type { CounterReport } from '../../schemas/counters.ts'
import type { Pointer } from '../../schemas/pointer.ts'
import { COUNTERS_KEPT_MS, capped } from '../core/counters.ts'
import { isSnapflipError } from '../core/errors.ts'
import { pinInForce } from '../core/readers-on.ts'
import { bounded } from './bounded.ts'
import type { Source } from './source.ts'
import type { Serving } from './standing.ts'
import { type Counting, type Counts, combine, noCounts, type Tally } from './tally.ts'

/** Where nobody watches (no canary, no bake) a report is only to be there when somebody begins to: it is written this much less often. */
const UNWATCHED_TIMES = 12
/** A report that nothing was added to is written again before the store lets go of it. */
const REWRITE_MS = COUNTERS_KEPT_MS / 4
/** Whoever rolled back waits for readers to say that they have followed: they do within this, and not all in the same moment. */
const FOLLOWED_WITHIN_MS = 500
/** A process that ends waits no longer than this. */
const LAST_WORD_MS = 500
/** Watches remembered: a reader that falls behind a flip and comes back goes on with the totals it had. */
const WATCHES_MAX = 8
/** Indexes whose recent keys are reported. */
const INDEXES_MAX = 16

type Side = CounterReport['side']

/** What one side of one watch has counted: what is carried from tallies of before, and what the present one counted since. */
class Watch {
  readonly watchId: string
  readonly side: Side
  readonly tag: string
  readonly since = new Date().toISOString()
  #carried = noCounts()
  #tally: Tally | null = null
  #base = noCounts()
  /** Nothing before the first report. */
  sent: { counts: string; at: number } | null = null

  constructor(watchId: string, side: Side, tag: string) {
    this.watchId = watchId
    this.side = side
    this.tag = tag
  }

  get counts(): Counts {
    return this.#tally === null ? this.#carried : combine(combine(this.#carried, this.#tally.own, 1), this.#base, -1)
  }

  /** Goes on with the tally of a version that was opened anew (another store's, say), or from nothing when there is none yet. */
  count(tally: Tally | null): void {
    if (tally === this.#tally) return
    this.#carried = this.counts
    this.#tally = tally
    this.#base = tally === null ? noCounts() : combine(tally.own, noCounts(), 1)
  }

  /** The version could not even be opened. */
  couldNotOpen(): void {
    this.#carried.errors++
  }
}

/**
 * Reports to the store what this reader counts, keyed by what is watched: the last flip, and the canary while there is one. Never in the way
 * of a read; a store that may not be written is told of once, and reading goes on.
 */
export class Reporter {
  readonly counters = { reports: 0, reportFailures: 0 }
  readonly readerId: string
  readonly #reportMs: number
  readonly #counting: Counting
  readonly #onError: (error: unknown) => void
  readonly #watches = new Map<string, Watch>()
  readonly #refusedBy = new WeakSet<Source>()
  #current: Watch[] = []
  #serving: Serving | null = null
  #reporting: Promise<void> | null = null
  #timer: NodeJS.Timeout | undefined
  #soon: NodeJS.Timeout | undefined

  constructor(readerId: string, reportMs: number, counting: Counting, onError: (error: unknown) => void) {
    this.readerId = readerId
    this.#reportMs = reportMs
    this.#counting = counting
    this.#onError = onError
  }

  /** What is served now, after each pointer that was followed. */
  serve(serving: Serving): void {
    const left = this.#serving?.version.ref.tag ?? null
    this.#serving = serving
    const { pointer, version, aside } = serving
    const candidate = pinInForce(pointer, Date.now()) === null ? pointer.candidate : null
    const current: Watch[] = []
    // What answers instead of the active version is not what is watched.
    if (pointer.active !== null && version.ref.tag === pointer.active.tag) {
      if (pointer.flipId !== null) current.push(this.#watch(pointer.flipId, 'active', version.ref.tag, version.tally))
      if (candidate !== null) {
        const { tag } = candidate.version
        current.push(this.#watch(candidate.canaryId, 'active', version.ref.tag, version.tally))
        current.push(this.#watch(candidate.canaryId, 'candidate', tag, aside?.version.tally ?? null))
      }
    }
    this.#current = current
    if (this.#reportMs === 0) return
    const isTakenBack = left !== null && left !== version.ref.tag && pointer.quarantined.includes(left)
    if (isTakenBack) this.#reportSoon()
    if (this.#timer !== undefined) return
    this.#timer = setInterval(() => void this.report(), this.#reportMs)
    // Reporting keeps no process alive.
    this.#timer.unref()
  }

  #reportSoon(): void {
    clearTimeout(this.#soon)
    this.#soon = setTimeout(() => void this.report(), Math.random() * FOLLOWED_WITHIN_MS)
    this.#soon.unref()
  }

  /** A candidate's versions that cannot be opened count as an error of it. */
  couldNotOpen(canaryId: string): void {
    this.#watches.get(nameOf(canaryId, 'candidate'))?.couldNotOpen()
  }

  /** Writes what has changed since it was written last. Never throws. */
  report(): Promise<void> {
    this.#reporting ??= this.#report().finally(() => {
      this.#reporting = null
    })
    return this.#reporting
  }

  async #report(): Promise<void> {
    const serving = this.#serving
    if (serving === null || this.#refusedBy.has(serving.source)) return
    const now = performance.now()
    const restMs = isWatched(serving.pointer) ? 0 : (UNWATCHED_TIMES - 0.5) * this.#reportMs
    for (const watch of this.#current) {
      const counts = watch.counts
      const text = JSON.stringify(counts)
      const { sent } = watch
      const isDue = sent === null || now - sent.at > (sent.counts === text ? REWRITE_MS : restMs)
      if (!isDue) continue
      try {
        await serving.source.store.counters.put(this.#reportOf(watch, counts))
        watch.sent = { counts: text, at: now }
        this.counters.reports++
      } catch (error) {
        this.counters.reportFailures++
        this.#tellFailure(serving.source, error)
        return
      }
    }
  }

  /** Stops; what a canary or bake has not heard of yet is told as a last word, if the store takes it in time. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    clearTimeout(this.#soon)
    const serving = this.#serving
    if (serving !== null && isWatched(serving.pointer) && this.#timer !== undefined)
      await bounded(this.report(), LAST_WORD_MS, () => undefined).catch(() => undefined)
    this.#serving = null
  }

  #tellFailure(source: Source, error: unknown): void {
    // A store that does not answer, or is full, is told of by who reads from it, or writes versions to it.
    if (isSnapflipError(error, 'STORE_UNREACHABLE') || isSnapflipError(error, 'STORE_FULL')) return
    // A reader that may not write says so once and goes on without.
    this.#refusedBy.add(source)
    this.#onError(error)
  }

  #watch(watchId: string, side: Side, tag: string, tally: Tally | null): Watch {
    const name = nameOf(watchId, side)
    const watch = this.#watches.get(name) ?? new Watch(watchId, side, tag)
    // Last of the map: the oldest go first.
    this.#watches.delete(name)
    this.#watches.set(name, watch)
    for (const oldest of this.#watches.keys()) {
      if (this.#watches.size <= WATCHES_MAX) break
      this.#watches.delete(oldest)
    }
    watch.count(tally)
    return watch
  }

  #reportOf({ watchId, side, tag, since }: Watch, counts: Counts): CounterReport {
    const recent = [...(this.#counting.recent ?? [])].slice(0, INDEXES_MAX)
    const recentKeys = Object.fromEntries(recent.map(([index, keys]) => [index, keys.list()]))
    const at = new Date().toISOString()
    return capped({ watchId, side, tag, readerId: this.readerId, ...counts, recentKeys, since, at })
  }
}

function nameOf(watchId: string, side: Side): string {
  return `${side} ${watchId}`
}

function isWatched({ candidate, bake }: Pointer): boolean {
  return candidate !== null || bake !== null
}
