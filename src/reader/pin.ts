import { randomUUID } from 'node:crypto'
import type { VersionRef } from '../../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { manifestHash } from '../snapshot/manifest.ts'
import type { Store } from '../stores/ports.ts'
import { LEASE_TTL_MAX_MS } from '../stores/unreadable-lease.ts'
import { MissingObject } from './missing-object.ts'
import { Reads, type ValueTypes } from './reads.ts'
import type { Values } from './values.ts'
import type { OpenVersion } from './version.ts'

/** Of `reader.pin`. */
export interface PinOptions {
  /** Tag of the version to stay on. Default: the active one. */
  version?: string
  /** How long the version stays protected when this process dies. Default 60,000; 100 to 2,147,483,647. */
  ttlMs?: number
}

const TTL_MS = 60_000
const TTL_MS_MIN = 100
/** Renewed this often within its time: two renewals may fail. */
const RENEWALS_A_TTL = 3
/** After a failed renewal. */
const RETRIES_A_TTL = 12

interface HeldLease {
  outcome: 'held'
  id: string
  ttlMs: number
  /** performance.now() until which the store surely keeps the version; 0: it refused the lease. */
  protectedUntil: number
}
type LeaseOutcome = HeldLease | { outcome: 'retired'; error: SnapflipError }

/**
 * Writes a lease, then reads the pointer: if the version was retired before, its deletion may not have seen the lease. Throws
 * STORE_UNREACHABLE; a store that refuses writes gives a lease that protects nothing.
 */
export async function takeLease(store: Store, version: OpenVersion, options: PinOptions): Promise<LeaseOutcome> {
  const ttlMs = options.ttlMs ?? TTL_MS
  if (!(ttlMs >= TTL_MS_MIN && ttlMs <= LEASE_TTL_MAX_MS)) {
    throw new SnapflipError(
      'USAGE',
      `Option ttlMs of pin is ${ttlMs}, expected a number from ${TTL_MS_MIN} to ${LEASE_TTL_MAX_MS}.`,
      { option: 'ttlMs' },
    )
  }
  const id = randomUUID()
  const putAt = performance.now()
  let protectedUntil = putAt + ttlMs
  try {
    await store.leases.put({ id, tag: version.ref.tag, kind: 'reader', ttlMs })
  } catch (error) {
    if (isSnapflipError(error, 'STORE_UNREACHABLE')) throw error
    protectedUntil = 0
  }
  if (!(await isRetired(store, version))) return { outcome: 'held', id, ttlMs, protectedUntil }
  // What is left of it ends by itself.
  await store.leases.drop(id).catch(() => undefined)
  return { outcome: 'retired', error: retired(version.source.dataset, version.ref.tag, store) }
}

/** Whether a version may be, or was, deleted. Retired tags are forgotten once their manifest is gone, so then that is asked for. */
async function isRetired(store: Store, version: OpenVersion): Promise<boolean> {
  const pointer = (await store.pointer.read())?.pointer
  const { ref } = version
  if (pointer?.retired.includes(ref.tag)) return true
  if (pointer?.active?.manifest === ref.manifest || pointer?.previous?.manifest === ref.manifest) return false
  const bytes = await store.data.readManifest(ref.tag)
  return bytes === null || manifestHash(bytes) !== ref.manifest
}

export function retired(dataset: string, tag: string, store: Store): SnapflipError {
  return new SnapflipError(
    'VERSION_RETIRED',
    `${tag} of ${dataset} was retired in ${store.url}, expected a retained version. Pin again to get the active one; \`snapflip versions ${dataset}\` lists what is kept.`,
    { dataset, tag, store: store.url },
  )
}

/** A reader's hold on one version: answers from it until `end`, across flips. */
export class Pin<T extends ValueTypes = ValueTypes> extends Reads<T> {
  protected readonly values: Values
  readonly #version: OpenVersion
  readonly #store: Store
  readonly #lease: HeldLease
  readonly #hooks: PinHooks
  #timer: NodeJS.Timeout | undefined
  /** The lease ran out once: the version may have been deleted meanwhile, whatever the lease says now. */
  #lapsed = false
  #ended = false

  /** For `Reader.pin`. */
  constructor(version: OpenVersion, store: Store, lease: HeldLease, values: Values, hooks: PinHooks) {
    super()
    this.#version = version
    this.#store = store
    this.#lease = lease
    this.values = values
    this.#hooks = hooks
    if (lease.protectedUntil > 0) this.#renewAfter(lease.ttlMs / RENEWALS_A_TTL)
  }

  get version(): VersionRef {
    return this.#version.ref
  }

  get manifest(): OpenVersion['manifest'] {
    return this.#version.manifest
  }

  /** True while the store surely keeps the version for this pin. Else its minimum age alone does. */
  get protected(): boolean {
    return !this.#lapsed && !this.#ended && performance.now() < this.#lease.protectedUntil
  }

  /** Gives the version back. Reads after it throw READER_CLOSED. */
  async end(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    clearTimeout(this.#timer)
    this.#hooks.onEnd()
    if (this.#lease.protectedUntil === 0) return
    // A lease that cannot be dropped ends by itself.
    await this.#store.leases.drop(this.#lease.id).catch(this.#hooks.onError)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end()
  }

  protected answer<R>(read: (version: OpenVersion) => R | Promise<R>): Promise<R> {
    if (this.#ended) return Promise.reject(this.#endedError())
    try {
      const result = read(this.#version)
      return result instanceof Promise ? result.catch((error: unknown) => this.#fail(error)) : Promise.resolve(result)
    } catch (error) {
      return this.#fail(error)
    }
  }

  protected standing(): ReturnType<PinHooks['standing']> {
    return this.#hooks.standing()
  }

  async #fail(error: unknown): Promise<never> {
    try {
      return await this.#explain(error)
    } catch (reason) {
      this.#hooks.onFailure(reason)
      throw reason
    }
  }

  /** A missing object is never a miss: the version was deleted, which only an unprotected one may be, or it is damaged. */
  async #explain(error: unknown): Promise<never> {
    if (this.#ended) throw this.#endedError()
    if (!(error instanceof MissingObject)) {
      this.#version.tally.failed(error)
      throw error
    }
    const { protectedUntil } = this.#lease
    const ranOut = this.#lapsed || (protectedUntil > 0 && performance.now() >= protectedUntil)
    if (ranOut || (await isRetired(this.#store, this.#version)))
      throw retired(this.#version.source.dataset, this.#version.ref.tag, this.#store)
    this.#version.tally.failed(error)
    throw error.asCorrupt()
  }

  #renewAfter(ms: number): void {
    this.#timer = setTimeout(() => void this.#renew(), ms)
    // A pin alone keeps no process alive; its lease ends by itself.
    this.#timer.unref()
  }

  async #renew(): Promise<void> {
    const { id, ttlMs } = this.#lease
    const sentAt = performance.now()
    let nextMs = ttlMs / RENEWALS_A_TTL
    try {
      await this.#store.leases.put({ id, tag: this.#version.ref.tag, kind: 'reader', ttlMs })
      // Back after it had run out: as at the start, the pointer says whether the lease came in time.
      const late = performance.now() >= this.#lease.protectedUntil
      if (late && (await isRetired(this.#store, this.#version))) this.#lapsed = true
      else this.#lease.protectedUntil = sentAt + ttlMs
    } catch (error) {
      nextMs = ttlMs / RETRIES_A_TTL
      if (!this.#ended) this.#hooks.onError(error)
    }
    if (this.#ended) await this.#store.leases.drop(id).catch(() => undefined)
    else if (!this.#lapsed) this.#renewAfter(nextMs)
  }

  #endedError(): SnapflipError {
    const { dataset } = this.#version.source
    const { tag } = this.#version.ref
    return new SnapflipError(
      'READER_CLOSED',
      `The pin on ${tag} of ${dataset} has ended, expected it open. Pin again.`,
      {
        dataset,
        tag,
      },
    )
  }
}

interface PinHooks {
  standing(): { ageMs: number; stale: boolean; expired: boolean; store: string }
  onEnd(): void
  /** A call ends without an answer. */
  onFailure(error: unknown): void
  onError(error: unknown): void
}
