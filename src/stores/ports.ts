import type { CounterReport } from '../../schemas/counters.ts'
import type { Location } from '../../schemas/manifest.ts'
import type { Pointer } from '../../schemas/pointer.ts'

/**
 * The two ports every store driver implements, the leases that guard what readers hold, and the counters that they leave. One contract
 * suite (`test/stores/contract.ts`) runs against all drivers on real servers.
 *
 * A store is opened for one dataset; `dataset` names the key prefix or folder below the store's own.
 */
export interface Store {
  /** The URL with credentials removed; safe for logs and messages. */
  readonly url: string
  readonly data: DataStore
  readonly pointer: PointerStore
  readonly leases: LeaseStore
  readonly counters: CounterStore
  /**
   * Proves that the store can keep what it is given: reachable, writable, no eviction (Redis), bucket there and
   * conditional writes honoured (S3), folder writable. Throws STORE_UNREACHABLE or STORE_UNSUITABLE.
   */
  check(): Promise<void>
  /** Bytes the store's limit still allows; null when it has none that can be known. */
  freeBytes(): Promise<number | null>
  close(): Promise<void>
}

/** A store that follows a dataset's first one: versions come there by copy, and its pointer says what the first store's says. */
export interface FurtherStore {
  /** As the definition calls it. */
  name: string
  store: Store
}

/** Immutable data: blocks, pages and manifests. Nothing put here is ever overwritten. */
export interface DataStore {
  /**
   * Opens a generation for writing. The generation is journalled before its first object is written, so that whatever
   * an attempt leaves behind can be found (`generations`) and swept (`deleteGeneration`).
   */
  begin(generation: string): Promise<GenerationWriter>
  /**
   * Reads objects, in the order asked. A missing object, or one shorter than its location says, is null: never a miss,
   * the caller names it VERSION_RETIRED or CORRUPT.
   */
  read(locations: readonly Location[]): Promise<Array<Uint8Array | null>>
  /** Puts the manifest of a version if absent. `same`: exactly these bytes were there already (a lost reply). Other bytes: CONFLICT. */
  putManifest(tag: string, bytes: Uint8Array): Promise<'created' | 'same'>
  readManifest(tag: string): Promise<Uint8Array | null>
  /** Tags of all manifests, in no order. */
  listManifests(): Promise<string[]>
  deleteManifest(tag: string): Promise<void>
  /** Generations begun and not yet deleted. */
  generations(): Promise<Array<{ generation: string; begunAt: Date }>>
  /**
   * Deletes the storage units (Redis: keys; S3 and folders: whole packs) that hold these objects. The caller answers for it that
   * nothing alive lies in the same unit. Absent units are no error.
   */
  deleteUnits(locations: readonly Location[]): Promise<void>
  /** Deletes all that a generation wrote, and its journal entry. Absent is no error. */
  deleteGeneration(generation: string): Promise<void>
  /** How objects are laid out: each its own unit of deletion (`keys`), or many in one (`packs`). */
  readonly layout: 'keys' | 'packs'
}

export interface GenerationWriter {
  readonly generation: string
  /**
   * Takes objects (not copied: the caller must not change them afterwards) and says where they will lie. Resolves when
   * there is room for more: this is the back-pressure. Durable only after `finish`.
   */
  put(objects: readonly Uint8Array[]): Promise<Location[]>
  /** Resolves when all objects put so far are durable (S3: put; Redis: acknowledged, by replicas too when configured; folder: fsynced). */
  finish(): Promise<void>
}

/** What a pointer read returns: the pointer and the token that `swap` compares (Redis: revision; S3: ETag; folder: content hash). */
export interface PointerRead {
  pointer: Pointer
  token: string
}

/** The one mutable object. All decisions are made by `src/core/pointer.ts`; a driver only compares and sets. */
export interface PointerStore {
  read(): Promise<PointerRead | null>
  /**
   * Sets the pointer if the stored one still has this token (null: if there is none). False when another write came first.
   * An unknown outcome (time-out, lost reply) throws STORE_UNREACHABLE: the caller reads before it decides.
   */
  swap(token: string | null, next: Pointer): Promise<boolean>
  /**
   * Calls back with the pointer after changes, soon (pub/sub where there is one, polling at `pollMs` always), until the
   * signal aborts. Never throws; failures are told to `onError` and tried again.
   */
  watch(options: {
    pollMs: number
    signal: AbortSignal
    onPointer: (read: PointerRead | null) => void
    onError: (error: unknown) => void
  }): void
  /**
   * Whether `swap` may write: false in a Redis that is not the one the pointer was last written to (restart, failover), where what was
   * acknowledged may be undone. Always true elsewhere, and where there is no pointer.
   */
  isBound(): Promise<boolean>
  /**
   * Redis only: sets the pointer and binds it to the server that answers now, if the stored one still has this token and is not bound.
   * False when another write came first. The caller has looked whether every block of the active version is there.
   */
  rebind(token: string, next: Pointer): Promise<boolean>
}

/** A claim that keeps a version from being deleted. Times are the store's own clock. */
export interface Lease {
  id: string
  /** Null: what lies there cannot be read, so it may be a claim to any version. */
  tag: string | null
  kind: 'reader' | 'build'
  expiresAt: Date
}

/**
 * Leases. The protocol is the same for all stores: a holder writes its lease, *then* reads the pointer and gives up if the
 * version is retired; retiring marks the version in the pointer by compare-and-set, *then* lists the leases and deletes only what none names.
 * Whichever came first is seen by the other.
 */
export interface LeaseStore {
  /** Writes or renews. */
  put(lease: { id: string; tag: string; kind: Lease['kind']; ttlMs: number }): Promise<void>
  drop(id: string): Promise<void>
  /**
   * Unexpired leases, and what cannot be read until no lease of its age would last. Removes expired ones as it goes. Of those alone whose id
   * begins with `begin`, where that is given: what others hold is not even read.
   */
  list(begin?: string): Promise<Lease[]>
}

/**
 * What readers counted. Nothing here is ever added up in the store: each reader puts its own totals whole, so that a report that is put
 * twice, late or not at all makes none of the others wrong. A store takes any report; who judges them caps each (`src/core/counters.ts`).
 */
export interface CounterStore {
  /** Puts a reader's totals for one side of one watch in the place of its former ones. They are kept for COUNTERS_KEPT_MS at least. */
  put(report: CounterReport): Promise<void>
  /** The reports of a watch, in no order. What is none is left out: it is nobody's vote. */
  list(watchId: string): Promise<CounterReport[]>
  /** Removes all reports of a watch. None is no error; a reader that has not heard that it is over may put one again. */
  drop(watchId: string): Promise<void>
  /** Removes the reports, of all watches, that were put longer ago than they are kept; Redis does so by itself. */
  dropExpired(keptMs?: number): Promise<void>
}
