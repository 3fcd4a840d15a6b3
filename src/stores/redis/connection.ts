import { readFileSync } from 'node:fs'
import { Redis, type RedisOptions } from 'ioredis'
import { isCertificateFault } from '../../core/certificate-fault.ts'
import { type ErrorCode, isSnapflipError, SnapflipError } from '../../core/errors.ts'
import { parseStoreUrl, urlOptions, wholeNumber } from '../url-options.ts'
import { SETTLE } from './scripts.ts'

const EXPECTED = 'redis://user:password@host:port/db?prefix=sf'
const KNOWN = ['prefix', 'waitReplicas', 'connectTimeoutMs', 'commandTimeoutMs', 'tlsCa', 'tlsServername'] as const

const CONNECT_TIMEOUT_MS = 2_000
const COMMAND_TIMEOUT_MS = 5_000
/** A restarted server is noticed within half a second. */
const RECONNECT_MAX_MS = 500
/** Short, because every block's key begins with it. */
const DEFAULT_PREFIX = 'sf'

export interface RedisTarget {
  /** Without credentials. */
  shown: string
  prefix: string
  /** Replicas that must have a write before it counts as done; 0 asks none. */
  waitReplicas: number
  commandTimeoutMs: number
  options: Omit<RedisOptions, 'replyMapping'>
}

export function parseRedisUrl(
  url: string,
  limits: { connectTimeoutMs?: number; commandTimeoutMs?: number },
): RedisTarget {
  const parsed = parseStoreUrl(url, EXPECTED)
  const query = urlOptions(parsed, KNOWN)
  const db = /^\/?(\d{0,4})$/.exec(parsed.pathname)?.[1]
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1')
  const prefix = query.prefix ?? DEFAULT_PREFIX
  if (db === undefined || host === '') {
    throw new SnapflipError(
      'CONFIG_INVALID',
      `Redis URL has the host ${JSON.stringify(host)} and the path ${JSON.stringify(parsed.pathname)}, expected ${EXPECTED}.`,
    )
  }
  if (!/^[A-Za-z0-9._:-]{1,64}$/.test(prefix)) {
    throw new SnapflipError(
      'CONFIG_INVALID',
      `Redis key prefix is ${JSON.stringify(prefix)}, expected up to 64 letters, digits and . _ : -`,
      { prefix },
    )
  }
  const waitReplicas = wholeNumber('waitReplicas', query.waitReplicas ?? '0')
  const commandTimeoutMs =
    limits.commandTimeoutMs ?? wholeNumber('commandTimeoutMs', query.commandTimeoutMs ?? `${COMMAND_TIMEOUT_MS}`)
  const connectTimeoutMs =
    limits.connectTimeoutMs ?? wholeNumber('connectTimeoutMs', query.connectTimeoutMs ?? `${CONNECT_TIMEOUT_MS}`)
  const port = parsed.port === '' ? 6379 : Number(parsed.port)
  const shownQuery = query.prefix === undefined ? '' : `?prefix=${prefix}`
  return {
    // Two names of this machine are one store, not a move from one to the other.
    shown: `${parsed.protocol}//${parsed.hostname === 'localhost' ? '127.0.0.1' : parsed.hostname}:${port}/${db || 0}${shownQuery}`,
    prefix,
    waitReplicas,
    commandTimeoutMs,
    options: {
      host,
      port,
      db: Number(db),
      ...(parsed.username === '' ? {} : { username: decodeURIComponent(parsed.username) }),
      ...(parsed.password === '' ? {} : { password: decodeURIComponent(parsed.password) }),
      ...(parsed.protocol === 'rediss:' ? { tls: tlsOptions(query.tlsCa, query.tlsServername) } : {}),
      connectTimeout: connectTimeoutMs,
      // Destroys a connection on which nothing comes back. commandTimeout would leave it in place, and costs a timer a command.
      socketTimeout: commandTimeoutMs,
      // Its timer keeps a process alive even when the connection is long closed.
      disconnectTimeout: 100,
      lazyConnect: true,
      // A server that is loading answers LOADING at once, which says more than waiting does.
      enableReadyCheck: false,
      retryStrategy: (times) => Math.min(times * 20, RECONNECT_MAX_MS),
      // Nothing is ever sent twice: a pointer write sent again would find its own success as somebody else's. And only with 0
      // retries are all commands of a lost connection rejected; with more, ioredis drops them unanswered.
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
    },
  }
}

function tlsOptions(ca: string | undefined, servername: string | undefined): NonNullable<RedisOptions['tls']> {
  return {
    ...(ca === undefined ? {} : { ca: readCa(ca) }),
    ...(servername === undefined ? {} : { servername }),
  }
}

function readCa(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    throw new SnapflipError(
      'CONFIG_INVALID',
      `Option tlsCa names ${path}, expected a readable certificate file.`,
      { path },
      cause,
    )
  }
}

/** One connection, its errors translated, and writes of one turn of the event loop sent together. */
export class RedisConnection {
  readonly url: string
  readonly redis: Redis
  readonly #target: RedisTarget
  readonly #subscribers = new Set<Redis>()
  /** Why there is no connection: what commands are rejected with says only that there is none. */
  #lastFailure: Error | undefined
  #corked = false

  constructor(target: RedisTarget) {
    this.url = target.shown
    this.#target = target
    this.redis = new Redis(target.options)
    this.redis.on('error', (error: Error) => {
      this.#lastFailure = error
    })
    this.redis.on('ready', () => {
      this.#lastFailure = undefined
    })
  }

  /**
   * Call before commands: all that are sent in this turn of the event loop leave in one write. With 100 reads in flight that
   * doubles their throughput (measured: 110,000/s to 270,000/s), and costs a single one nothing.
   */
  cork(): void {
    const stream = this.redis.stream
    if (this.#corked || stream === undefined) return
    this.#corked = true
    stream.cork()
    setImmediate(() => {
      this.#corked = false
      stream.uncork()
    })
  }

  async run<T>(doing: string, command: () => Promise<T>): Promise<T> {
    try {
      return await command()
    } catch (error) {
      throw this.translate(error, doing)
    }
  }

  translate(error: unknown, doing: string): unknown {
    if (isSnapflipError(error) || !(error instanceof Error)) return error
    const known = error.name === 'ReplyError' ? error : (this.#lastFailure ?? error)
    const [code, expected, hint] = reasonOf(known, this.#target.options.tls !== undefined)
    // A fresh error: that of ioredis carries the command with its arguments, which may be row contents or a password.
    const cause = new Error(known.message)
    cause.name = known.name
    return new SnapflipError(
      code,
      `${this.url} failed while ${doing} (${known.message}), expected ${expected}. ${hint}`,
      { store: this.url },
      cause,
    )
  }

  /** Waits until the configured number of replicas has all that was written here before. */
  async settleReplicas(key: string): Promise<void> {
    const { waitReplicas, commandTimeoutMs } = this.#target
    if (waitReplicas === 0) return
    // WAIT asks for this connection's last write; after a reconnect there would be none.
    const waitMs = Math.max(1, Math.floor(commandTimeoutMs / 2))
    const [, acknowledged] = await Promise.all([this.redis.eval(SETTLE, 1, key), this.redis.wait(waitReplicas, waitMs)])
    if (acknowledged >= waitReplicas) return
    throw new SnapflipError(
      'STORE_UNREACHABLE',
      `${acknowledged} replicas of ${this.url} acknowledged a write within ${waitMs} ms, expected ${waitReplicas}. ` +
        'Check the replicas, or lower waitReplicas.',
      { store: this.url, acknowledged, waitReplicas },
    )
  }

  /** A connection of its own that hears of a channel's messages, and of having been away. */
  subscribe(channel: string, signal: AbortSignal, onNews: () => void, onError: (error: unknown) => void): void {
    // Without a socket time-out: silence is what a subscriber mostly hears.
    const { socketTimeout: _, ...options } = this.#target.options
    const subscriber = new Redis({ ...options, maxRetriesPerRequest: null })
    this.#subscribers.add(subscriber)
    const end = () => {
      this.#subscribers.delete(subscriber)
      subscriber.disconnect()
    }
    if (signal.aborted) {
      end()
      return
    }
    signal.addEventListener('abort', end, { once: true })
    // The polling beside it tells of a store that does not answer.
    subscriber.on('error', () => undefined)
    subscriber.on('message', onNews)
    subscriber.on('ready', onNews)
    subscriber.subscribe(channel).catch((error: unknown) => {
      if (!signal.aborted) onError(this.translate(error, 'subscribing to changes of the pointer'))
    })
  }

  close(): void {
    for (const subscriber of this.#subscribers) subscriber.disconnect()
    this.redis.disconnect()
  }
}

function reasonOf(error: Error, isTls: boolean): [ErrorCode, string, string] {
  if (isCertificateFault(error)) {
    return [
      'STORE_UNSUITABLE',
      'a certificate of this host, by an authority that the system or tlsCa names',
      "Add ?tlsCa= with the file of the server's authority, and ?tlsServername= where its certificate has another name.",
    ]
  }
  switch (/^([A-Z]+) /.exec(error.message)?.[1]) {
    case 'OOM':
      return ['STORE_FULL', 'room below maxmemory', 'Raise maxmemory or lower `keep`, then try again.']
    case 'NOAUTH':
    case 'WRONGPASS':
    case 'NOPERM':
      return [
        'STORE_UNSUITABLE',
        'a user that may do this',
        'Check user, password and ACL; see `snapflip doctor --grants`.',
      ]
    case 'MOVED':
    case 'CROSSSLOT':
      return ['STORE_UNSUITABLE', 'one node that holds all slots', 'Give the address of such a node.']
    default:
      return [
        'STORE_UNREACHABLE',
        'a primary that answers',
        isTls
          ? 'Check that it runs, can be reached and speaks TLS on this port (redis: is without), then try again.'
          : 'Check that it runs and can be reached without TLS (rediss: is with it), then try again.',
      ]
  }
}
