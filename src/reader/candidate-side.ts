import type { Pointer } from '../../schemas/pointer.ts'
import { pinInForce } from '../core/readers-on.ts'
import { MissingObject } from './missing-object.ts'
import { isOnCandidateSide } from './side.ts'
import type { Source } from './source.ts'
import { type Aside, confirmAt, unreachable } from './standing.ts'
import { type OpenVersion, sameVersion } from './version.ts'

/** A candidate that could not be opened is left alone this long before it is tried again. */
const REST_MS = 1_000

interface Listener {
  /** The candidate of a canary is open: it may be over by now. */
  opened(source: Source, canaryId: string, version: OpenVersion): void
  failed(canaryId: string, error: unknown): void
}

/** Opens the candidate of a canary beside the active version: following that one waits for nothing, and answers both sides until then. */
export class CandidateSide {
  readonly #key: string
  readonly #listener: Listener
  #isOpening = false
  #restUntil = 0

  constructor(key: string, listener: Listener) {
    this.#key = key
    this.#listener = listener
  }

  /** What a pointer that was asked for at `sentAt` has answer on the candidate's side; `before` did so far. */
  of(source: Source, pointer: Pointer, sentAt: number, before: Aside | null): Aside | null {
    const candidate = pinInForce(pointer, Date.now()) === null ? pointer.candidate : null
    if (candidate === null) return null
    if (before?.version.source !== source || !sameVersion(before.version.ref, candidate.version)) {
      void this.#open(source, candidate, sentAt)
      return null
    }
    confirmAt(before.version, sentAt)
    return this.aside(before.version, candidate)
  }

  aside(version: OpenVersion, candidate: Aside['candidate']): Aside {
    return { version, candidate, isOwn: isOnCandidateSide(this.#key, candidate) }
  }

  async #open(source: Source, candidate: Aside['candidate'], sentAt: number): Promise<void> {
    if (this.#isOpening || performance.now() < this.#restUntil) return
    this.#isOpening = true
    try {
      const version = await source.open(candidate.version)
      version.isCandidate = true
      confirmAt(version, sentAt)
      this.#listener.opened(source, candidate.canaryId, version)
    } catch (error) {
      this.#restUntil = performance.now() + REST_MS
      // The store that does not answer is no fault of the candidate's, and told of by who follows the pointer.
      if (unreachable(error)) return
      this.#listener.failed(candidate.canaryId, error instanceof MissingObject ? error.asCorrupt() : error)
    } finally {
      this.#isOpening = false
    }
  }
}
