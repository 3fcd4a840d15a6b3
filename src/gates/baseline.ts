import { median, medianAbsoluteDeviation } from 'simple-statistics'
import type { IndexEvidence } from '../../schemas/evidence.ts'
import type { Calibration } from '../../schemas/gates.ts'

/**
 * What makes the median absolute deviation estimate a standard deviation where the data is normal: 1 / Φ⁻¹(3/4). Rousseeuw and Croux,
 * "Alternatives to the Median Absolute Deviation", Journal of the American Statistical Association 88 (1993), 1273–1283. Up to half of the history
 * may be outliers before either moves far, so that one bad night does not widen the limit for the next.
 */
const NORMAL = 1.4826

export const DIRECTIONS = ['inserted', 'updated', 'deleted', 'bytesGrown', 'bytesShrunk'] as const
export type Direction = (typeof DIRECTIONS)[number]

/** How much a build changed, by direction; null where it is not known. */
export function changesOf(evidence: IndexEvidence): Record<Direction, number | null> {
  const { inserted, updated, deleted, bytes, parentBytes } = evidence
  const more = bytes === null || parentBytes === null ? null : bytes - parentBytes
  return {
    inserted,
    updated,
    deleted,
    bytesGrown: more === null ? null : Math.max(0, more),
    bytesShrunk: more === null ? null : Math.max(0, -more),
  }
}

/** A version that readers were on and that nobody took back, and what it changed of one index. */
export interface GoodVersion {
  tag: string
  evidence: IndexEvidence
}

/** What is usual in one direction. */
export interface Usual {
  versions: number
  median: number
  mad: number
  /** More than this is not usual. */
  limit: number
}

/** Null: too little history to tell. */
export function usual(
  history: readonly GoodVersion[],
  direction: Direction,
  { minimum, deviations }: Calibration,
): Usual | null {
  const changes = history.map(({ evidence }) => changesOf(evidence)[direction]).filter((change) => change !== null)
  if (changes.length < minimum) return null
  const middle = median(changes)
  const mad = medianAbsoluteDeviation(changes)
  return { versions: changes.length, median: middle, mad, limit: Math.ceil(middle + deviations * NORMAL * mad) }
}
