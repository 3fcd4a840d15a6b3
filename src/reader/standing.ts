import type { z } from 'zod'
import type { candidateSchema, Pointer } from '../../schemas/pointer.ts'
import { isSnapflipError } from '../core/errors.ts'
import type { Source } from './source.ts'
import type { OpenVersion } from './version.ts'

/**
 * How a version came to be served:
 * - `confirmed`: its store's pointer names it, at the highest epoch that was seen.
 * - `kept`: it was confirmed last, and is now read from a store whose pointer does not say so. As old as that confirmation.
 * - `behind`: a pointer names it at a lower epoch than was seen, and the version confirmed last is nowhere to be had. Never confirmed:
 *   it answers with a mark, and only what asks for no freshness.
 */
export type Standing = 'confirmed' | 'kept' | 'behind'

const STANDINGS: readonly Standing[] = ['confirmed', 'kept', 'behind']

export function isWorse(a: Standing, b: Standing): boolean {
  return STANDINGS.indexOf(a) > STANDINGS.indexOf(b)
}

/** What a reader answers from now. Replaced as a whole, so that nobody sees half of a flip. */
export interface Serving {
  readonly version: OpenVersion
  readonly source: Source
  readonly standing: Standing
  /** Of a `kept` version: the pointer that confirmed it. */
  readonly pointer: Pointer
  /** performance.now() when that pointer was asked for. */
  readonly readAt: number
  /** Null without a canary, and until its candidate is open here: the active version answers both sides then. */
  readonly aside: Aside | null
}

/** The candidate's side of a canary. */
export interface Aside {
  readonly version: OpenVersion
  readonly candidate: z.infer<typeof candidateSchema>
  /** Whether the reader's own key is on this side. */
  readonly isOwn: boolean
}

export function confirmAt(version: OpenVersion, sentAt: number): void {
  if (sentAt > version.confirmedAt) version.confirmedAt = sentAt
}

/** What ends a call with no answer, and is neither a version's fault nor the question's. */
const UNAVAILABLE = ['STORE_UNREACHABLE', 'STORE_UNSUITABLE', 'READER_STALE', 'VERSION_EXPIRED'] as const

/** Whether a call ended so: counted apart from what a version could not answer. */
export function isUnavailable(error: unknown): boolean {
  return UNAVAILABLE.some((code) => isSnapflipError(error, code))
}

export function unreachable(error: unknown): boolean {
  return isSnapflipError(error, 'STORE_UNREACHABLE')
}
