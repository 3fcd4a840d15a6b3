import type { BakePolicy } from '../../schemas/watch.ts'
import { actualOf, told, worseIn } from './canary-judgement.ts'
import { beyondLimits, compareReaders, type ReaderCounts } from './reader-comparison.ts'

/** What the watch over an active version has seen so far. */
export interface Watched {
  now: readonly ReaderCounts[]
  /** Of the version before; empty where nothing is left of it. */
  before: readonly ReaderCounts[]
  /** Keys compared with the source, and those that differ; null where none were compared. */
  drift: { compared: number; different: number } | null
}

/** One look at a version that bakes. */
export interface BakeJudgement {
  /** What is beyond its limits; empty where nothing is. */
  beyond: string[]
  summary: string
  evidence: Record<string, number | null>
}

/** Judges a look at a version that bakes: against the version before, and against what is too much in any case. */
export function judgeBake({ now, before, drift }: Watched, policy: BakePolicy, look: number): BakeJudgement {
  const compared = compareReaders({ judged: now, other: before }, policy, look)
  const absolute = beyondLimits(now, policy, policy.max, look)
  const drifted = drift !== null && drift.compared > 0 && drift.different / drift.compared > policy.drift.maxShare
  const beyond = [
    ...worseIn(compared).map((finding) => `worse than the version before in ${told(finding)}`),
    ...worseIn(absolute).map((finding) => `beyond its limit in ${told(finding)}`),
    ...(drifted ? [`${drift.different} of ${drift.compared} keys differ from the source`] : []),
  ]
  const { reads, readers, isEnough } = absolute
  const counted = `${reads} reads by ${readers} readers${isEnough ? '' : ', too few to judge by'}`
  return {
    beyond,
    summary: beyond.length === 0 ? `${counted}, within its limits` : `${beyond.join('; ')} (${counted})`,
    evidence: {
      ...actualOf({ ...compared, reads, readers }),
      ...(drift === null ? {} : { driftCompared: drift.compared, driftDifferent: drift.different }),
    },
  }
}
