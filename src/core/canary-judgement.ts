import type { GateResult } from '../../schemas/refresh.ts'
import type { CanaryPolicy } from '../../schemas/watch.ts'
import { pairsByChance } from './exact-test.ts'
import { LOOKS } from './looks.ts'
import type { Comparison, Finding } from './reader-comparison.ts'

/** What was found of keys that were read on both versions. */
export interface Probed {
  keys: number
  /** Keys that one of the two could not answer, and the other could. */
  failedOnCandidate: number
  failedOnActive: number
  /** Keys that one of the two has, and the other has not. */
  missingOnCandidate: number
  missingOnActive: number
  /** Why the first of those that the candidate could not answer failed; null: none did. */
  cause: string | null
  /** Keys that the candidate lacks or could not answer, hashed. */
  sampleKeys: string[]
}

/** Measures by which the version is worse; a candidate of which there is one goes no further. */
export function worseIn({ findings }: Comparison): Finding[] {
  return findings.filter(({ verdict }) => verdict === 'worse')
}

/** The canary's result, of what readers counted. Where few readers have it badly, it passes with that said. */
export function canaryResult(comparison: Comparison, policy: CanaryPolicy): GateResult {
  const worse = worseIn(comparison)
  const few = comparison.findings.filter(({ verdict }) => verdict === 'few')
  const counted = `${comparison.reads} reads by ${comparison.readers} readers`
  return {
    gate: 'canary',
    index: null,
    verdict: worse.length > 0 ? policy.verdict : few.length > 0 ? 'warn' : 'pass',
    summary:
      worse.length > 0
        ? `worse than the active version in ${worse.map(told).join(', ')}, by ${counted} on either side at the least`
        : few.length > 0
          ? `a minority of the readers has it worse in ${few.map(told).join(', ')}, of ${counted}`
          : `no worse than the active version, by ${counted} on either side at the least`,
    actual: actualOf(comparison),
    limit: limitOf(policy),
    sampleKeys: [],
  }
}

/**
 * The result of a probe. The keys are the same on both versions, so they are compared pair by pair: a few that are missing are no chance only where
 * hardly any came instead. A read that fails on the candidate alone is no matter of chance at all.
 */
export function probeResult(probed: Probed, policy: CanaryPolicy, why: string): GateResult {
  const { keys, failedOnCandidate, failedOnActive, missingOnCandidate, missingOnActive, cause } = probed
  const { maxWorse, confidence } = policy
  const failed = keys > 0 && (failedOnCandidate - failedOnActive) / keys > maxWorse.errors
  const missing =
    keys > 0 &&
    (missingOnCandidate - missingOnActive) / keys > maxWorse.misses &&
    pairsByChance(missingOnCandidate, missingOnCandidate + missingOnActive) < 1 - confidence
  const worse = [
    ...(failed ? [`${failedOnCandidate} fail on the candidate alone (${cause})`] : []),
    ...(missing
      ? [`${missingOnCandidate} are missing in the candidate alone, ${missingOnActive} in the active version`]
      : []),
  ]
  const read = keys === 0 ? 'there was no key to read on both versions' : `${keys} keys read on both versions`
  return {
    gate: 'canary',
    index: null,
    verdict: worse.length > 0 ? policy.verdict : 'pass',
    summary: `${why}; ${read}${worse.length > 0 ? `: ${worse.join(', ')}` : ''}`,
    actual: { keys, failedOnCandidate, failedOnActive, missingOnCandidate, missingOnActive },
    limit: { errors: maxWorse.errors, misses: maxWorse.misses, confidence },
    sampleKeys: probed.sampleKeys.slice(0, 10),
  }
}

/** One measure, for people: the share, what it was compared with, and how many readers have it so. */
export function told({ measure, share, otherShare, readers }: Finding): string {
  const before = otherShare === null ? '' : ` against ${percent(otherShare)}`
  return `${measure} (${percent(share ?? 0)}${before}; so for ${readers.hits} of ${readers.of} readers)`
}

/** What a comparison saw, by name, as evidence keeps it. */
export function actualOf({ reads, readers, look, findings }: Comparison): Record<string, number | null> {
  const shares = findings.flatMap(({ measure, share, otherShare, readers }) => [
    [measure, share] as const,
    [`${measure}Before`, otherShare] as const,
    [`${measure}Readers`, readers.hits] as const,
  ])
  return { reads, readers, look, looks: LOOKS, ...Object.fromEntries(shares) }
}

function limitOf({ minimumReads, minimumReaders, confidence, maxWorse }: CanaryPolicy): Record<string, number> {
  return { minimumReads, minimumReaders, confidence, ...maxWorse }
}

function percent(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`
}
