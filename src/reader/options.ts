import { randomUUID } from 'node:crypto'
import type { ZodType } from 'zod'
import { SnapflipError } from '../core/errors.ts'
import { FOLLOW_LAG_MS } from '../core/readers-on.ts'
import type { MetricsRegistry } from './metrics.ts'

/** Where a reader says what it does. pino's loggers fit. */
export interface ReaderLogger {
  info(fields: Record<string, unknown>, message: string): void
  warn(fields: Record<string, unknown>, message: string): void
}

/** Of `open`. Times in milliseconds, sizes in bytes. */
export interface ReaderOptions<T extends Record<string, unknown> = Record<string, unknown>> {
  /** How long after a flip an unpinned read may still answer from the version before. Default 1000. */
  followLagMs?: number
  /** `wait`: `open` waits up to `waitMs` for a store that answers and a version to read. `fail`: one try. Default `wait`. */
  start?: 'wait' | 'fail'
  /** Bounds the waits of `open`, `atLeast`, and of a read whose pointer has to be refreshed first. Default 10,000. */
  waitMs?: number
  /** When the pointer cannot be refreshed: answer from the version last seen, marked stale, or throw READER_STALE. Default `serve`. */
  onStale?: 'serve' | 'error'
  /** `onStale: 'error'`: how long without a refresh is too long. Default: the follow lag. */
  staleAfterMs?: number
  /** Of a store's connection. Default 2000. */
  connectTimeoutMs?: number
  /** Of one command or request to a store. Default 2000. */
  commandTimeoutMs?: number
  /** Decoded pages kept in memory. Default 64 MiB: the pages of about 50 million entries. */
  pageCacheBytesMax?: number
  /** Decoded blocks kept in memory; 0 keeps none. Default 0. */
  blockCacheBytesMax?: number
  /** While a canary runs, this chooses the side that answers: readers with one key are on one side. Default: drawn at random. */
  key?: string
  /** How often what was counted is reported to the store while a canary or bake runs, else 12 times less often; 0: never. Default 5000. */
  reportMs?: number
  /** Whether a report names a few keys that were read of late, for probes of a version that nobody reads. Default true. */
  reportKeys?: boolean
  /** Checks and types the values of an index; a value it refuses is a SHAPE_MISMATCH. */
  schemas?: { [I in keyof T]?: ZodType<T[I]> }
  /** The shape an index must have, as `manifest.indexes[…].shape` has it; another is a SHAPE_MISMATCH. */
  shapes?: { [I in keyof T]?: string }
  /** Instead of JSON.parse: for numbers that a double cannot hold, for instance. */
  parse?: (text: string, index: string) => unknown
  logger?: ReaderLogger
  /** prom-client's Registry of the application: told what this reader counts; see docs/metrics.md. */
  metrics?: MetricsRegistry
}

/** What a reader may hold and wait for, with all defaults filled in. */
export interface Limits {
  followLagMs: number
  start: 'wait' | 'fail'
  waitMs: number
  onStale: 'serve' | 'error'
  staleAfterMs: number
  connectTimeoutMs: number
  commandTimeoutMs: number
  pageCacheBytesMax: number
  blockCacheBytesMax: number
  key: string
  reportMs: number
  reportKeys: boolean
}

const MINUTE_MS = 60_000

/** Options with their defaults. Throws USAGE. */
export function limitsOf(options: ReaderOptions): Limits {
  requireRegistry(options.metrics)
  const followLagMs = within('followLagMs', options.followLagMs ?? FOLLOW_LAG_MS, 10, 60 * MINUTE_MS)
  return {
    followLagMs,
    start: oneOf('start', options.start ?? 'wait', ['wait', 'fail']),
    waitMs: within('waitMs', options.waitMs ?? 10_000, 0, 60 * MINUTE_MS),
    onStale: oneOf('onStale', options.onStale ?? 'serve', ['serve', 'error']),
    staleAfterMs: within('staleAfterMs', options.staleAfterMs ?? followLagMs, followLagMs, 24 * 60 * MINUTE_MS),
    connectTimeoutMs: within('connectTimeoutMs', options.connectTimeoutMs ?? 2000, 1, 10 * MINUTE_MS),
    commandTimeoutMs: within('commandTimeoutMs', options.commandTimeoutMs ?? 2000, 1, 10 * MINUTE_MS),
    pageCacheBytesMax: within('pageCacheBytesMax', options.pageCacheBytesMax ?? 64 << 20, 0, 2 ** 40),
    blockCacheBytesMax: within('blockCacheBytesMax', options.blockCacheBytesMax ?? 0, 0, 2 ** 40),
    key: text('key', options.key ?? randomUUID()),
    reportMs: options.reportMs === 0 ? 0 : within('reportMs', options.reportMs ?? 5000, 100, 60 * MINUTE_MS),
    reportKeys: oneOf('reportKeys', options.reportKeys ?? true, [true, false]),
  }
}

function within(name: string, value: number, min: number, max: number): number {
  if (Number.isFinite(value) && value >= min && value <= max) return value
  throw new SnapflipError('USAGE', `Option ${name} of open is ${value}, expected a number from ${min} to ${max}.`, {
    option: name,
  })
}

function text(name: string, value: string): string {
  if (typeof value === 'string' && value !== '') return value
  throw new SnapflipError('USAGE', `Option ${name} of open is ${JSON.stringify(value)}, expected a text.`, {
    option: name,
  })
}

function oneOf<V extends string | boolean>(name: string, value: V, known: readonly V[]): V {
  if (known.includes(value)) return value
  throw new SnapflipError('USAGE', `Option ${name} of open is ${value}, expected ${known.join(' or ')}.`, {
    option: name,
  })
}

function requireRegistry(metrics: MetricsRegistry | undefined): void {
  if (metrics === undefined || typeof metrics?.registerMetric === 'function') return
  throw new SnapflipError(
    'USAGE',
    `Option metrics of open is ${metrics === null ? 'null' : `a ${typeof metrics}`}, expected a Registry of prom-client.`,
    { option: 'metrics' },
  )
}
