import { LATENCY_BOUNDS_MS, RECENT_KEYS_MAX } from '../../schemas/counters.ts'
import { COUNTERS_KEPT_MS } from '../core/counters.ts'
import { isSnapflipError } from '../core/errors.ts'
import { MissingObject } from './missing-object.ts'

/** One key in so many is kept, once there are RECENT_KEYS_MAX; a power of two. */
const KEYS_SAMPLED = 16
/** Longer keys are not reported. */
const RECENT_KEY_BYTES_MAX = 512

/** What was counted: plain numbers, since every read counts. `reads` and `misses` are keys, `errors` and `bad` are calls. */
export interface Counts {
  reads: number
  misses: number
  errors: number
  bad: number
  /** Of a sample of the calls, by LATENCY_BOUNDS_MS. */
  readonly latencyMs: number[]
}

export function noCounts(): Counts {
  return { reads: 0, misses: 0, errors: 0, bad: 0, latencyMs: LATENCY_BOUNDS_MS.map(() => 0).concat(0) }
}

/** `a + sign × b`. */
export function combine(a: Counts, b: Counts, sign: 1 | -1): Counts {
  return {
    reads: a.reads + sign * b.reads,
    misses: a.misses + sign * b.misses,
    errors: a.errors + sign * b.errors,
    bad: a.bad + sign * b.bad,
    latencyMs: a.latencyMs.map((count, at) => count + sign * (b.latencyMs[at] as number)),
  }
}

/** What one open version answered, and with the others of its reader in `all`. Only ever counted up. */
export class Tally {
  readonly own = noCounts()
  readonly all: Counts
  /** Indexes of the version that readers had before this one: whoever asks for one of them has not asked wrongly. */
  indexesBefore: ReadonlySet<string> = new Set()

  constructor(all: Counts) {
    this.all = all
  }

  took(ms: number): void {
    let bucket = 0
    while (bucket < LATENCY_BOUNDS_MS.length && ms > (LATENCY_BOUNDS_MS[bucket] as number))
      bucket++
      // One bucket more than bounds.
    ;(this.own.latencyMs[bucket] as number)++
    ;(this.all.latencyMs[bucket] as number)++
  }

  /** Counts what the version is to blame for. A store that does not answer is no version's fault, nor is what was asked wrongly. */
  failed(error: unknown): void {
    const lacks = isSnapflipError(error, 'UNKNOWN_INDEX') && this.indexesBefore.has(`${error.details.index}`)
    if (!lacks && !isFault(error)) return
    this.own.errors++
    this.all.errors++
  }

  wasBad(): void {
    this.own.bad++
    this.all.bad++
  }
}

function isFault(error: unknown): boolean {
  return (
    error instanceof MissingObject ||
    isSnapflipError(error, 'CORRUPT') ||
    isSnapflipError(error, 'SHAPE_MISMATCH') ||
    isSnapflipError(error, 'FORMAT_TOO_NEW')
  )
}

/** Some keys of an index that were read of late, whatever the version: for probes of a version that nobody reads. */
export class RecentKeys {
  #keys: Array<{ key: string; at: number }> = []
  #next = 0
  #seen = 0

  /** Of every read: all of the first, then one in KEYS_SAMPLED. */
  add(key: Buffer): void {
    if (this.#keys.length === RECENT_KEYS_MAX && (this.#seen++ & (KEYS_SAMPLED - 1)) !== 0) return
    if (key.length > RECENT_KEY_BYTES_MAX) return
    this.#keys[this.#next] = { key: key.toString(), at: performance.now() }
    this.#next = (this.#next + 1) % RECENT_KEYS_MAX
  }

  /**
   * Newest first, each once. What was read longer ago than a store keeps reports is forgotten: the process may have turned to something else.
   *
   * @param now as performance.now() tells it.
   */
  list(now: number = performance.now()): string[] {
    const oldestFirst = [...this.#keys.slice(this.#next), ...this.#keys.slice(0, this.#next)]
    const recent = oldestFirst.filter(({ at }) => now - at <= COUNTERS_KEPT_MS)
    if (recent.length < oldestFirst.length) {
      this.#keys = recent
      this.#next = recent.length
    }
    return [...new Set(recent.map(({ key }) => key).reverse())]
  }
}

/** What all versions of one reader count into. */
export interface Counting {
  readonly all: Counts
  /** By index; null where none are kept. */
  readonly recent: Map<string, RecentKeys> | null
}

/** What an index of an open version counts into. */
export interface Counted {
  readonly tally: Tally
  readonly recent: RecentKeys | null
}

/** Counts a key that was looked up. On the path of every read: no call, no clock, no allocation but for a sampled key. */
export function countRead({ tally, recent }: Counted, key: Buffer, found: boolean): void {
  const { own, all } = tally
  own.reads++
  all.reads++
  if (!found) {
    own.misses++
    all.misses++
  }
  if (recent !== null) recent.add(key)
}

/** The counter of an index's recent keys, of one reader. */
export function recentOf({ recent }: Counting, index: string): RecentKeys | null {
  if (recent === null) return null
  const known = recent.get(index) ?? new RecentKeys()
  recent.set(index, known)
  return known
}
