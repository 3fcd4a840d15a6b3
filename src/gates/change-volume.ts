import type { GateLimits } from '../../schemas/config.ts'
import type { Verdict } from '../../schemas/refresh.ts'
import { type Gate, heaviest } from './gate.ts'

const DIRECTIONS = ['inserted', 'updated', 'deleted'] as const

/** Too much changed at once, by direction: over the percentage of the parent's entries and over the absolute minimum; or little left. */
export const changeVolume: Gate = async ({ index, evidence }, { changeVolume: limits }) => {
  const findings: Array<{ verdict: Verdict; text: string }> = []
  // What is known is judged even so: the counts differ by at least that much.
  if (evidence.notCompared !== null) {
    findings.push({ verdict: 'warn', text: `not compared with what was there before: ${evidence.notCompared}` })
  }
  const actual: Record<string, number | null> = { parent: evidence.parentCount }
  const limit: Record<string, number> = {}
  for (const direction of DIRECTIONS) {
    const changed = evidence[direction]
    actual[direction] = changed
    const allowed = allowedChanges(limits[direction], evidence.parentCount)
    limit[direction] = allowed
    if (evidence.parentCount > 0 && changed !== null && changed > allowed) {
      const share = ((100 * changed) / evidence.parentCount).toFixed(1)
      findings.push({
        verdict: limits[direction].verdict,
        text: `${changed} ${direction} (${share} % of ${evidence.parentCount}), allowed are ${allowed}`,
      })
    }
  }
  const least = Math.ceil(evidence.parentCount * (1 - limits.shrunk.percent / 100))
  limit.count = least
  actual.count = evidence.count
  if (evidence.count < least) {
    findings.push({
      verdict: limits.shrunk.verdict,
      text: `${evidence.count} of ${evidence.parentCount} entries are left, expected at least ${least}`,
    })
  }
  return {
    gate: 'changeVolume',
    index,
    verdict: heaviest(findings.map((finding) => finding.verdict)),
    summary:
      findings.length > 0
        ? findings.map((finding) => finding.text).join('; ')
        : evidence.parentCount === 0
          ? `${evidence.count} entries, the first version`
          : `${evidence.inserted} inserted, ${evidence.updated ?? 'unknown'} updated, ${evidence.deleted} deleted of ${evidence.parentCount}`,
    actual,
    limit,
    sampleKeys: [],
  }
}

function allowedChanges(limit: GateLimits['changeVolume']['inserted'], parentCount: number): number {
  return Math.max(limit.atLeast, Math.floor((limit.percent / 100) * parentCount))
}
