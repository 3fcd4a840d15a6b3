import type { GateResult, Verdict } from '../../schemas/refresh.ts'
import { lookedAt } from './column-shares.ts'
import { type Gate, heaviest } from './gate.ts'
import { percent } from './null-share.ts'

/**
 * Columns of the value that became one value (all prices 0), or fell apart where few were expected. Of the entries that have a value. A sample
 * repeats less than the whole does: limits are meant for what was looked at, which the evidence names.
 */
export const distinctShare: Gate = async ({ index, evidence, columns }, limits) => {
  const findings: Array<{ verdict: Verdict; text: string }> = []
  const actual: GateResult['actual'] = {}
  const limit: GateResult['limit'] = {}
  const shares = await columns?.()
  for (const [column, { distinctShare }] of Object.entries(limits.columns?.[index] ?? {})) {
    const counted = shares?.columns[column]
    if (distinctShare === undefined || shares === undefined || counted === undefined) continue
    const { min = 0, max = 1, verdict } = distinctShare
    const values = shares.entries - counted.nulls
    limit[column] = `${min} to ${max}`
    // None has a value: that is for nullShare to judge.
    actual[column] = values === 0 ? null : counted.distinct / values
    const share = values === 0 ? min : counted.distinct / values
    if (share < min || share > max)
      findings.push({
        verdict,
        text: `${column} has ${counted.distinct} distinct of ${values} values (${percent(share)}), expected ${percent(min)} to ${percent(max)}`,
      })
  }
  const seen = shares === undefined ? '' : ` (${lookedAt(shares, evidence.count)})`
  return {
    gate: 'distinctShare',
    index,
    verdict: heaviest(findings.map((finding) => finding.verdict)),
    summary: `${
      findings.length > 0
        ? findings.map((finding) => finding.text).join('; ')
        : Object.entries(actual)
            .map(
              ([column, share]) =>
                `${column}: ${share === null ? 'no values' : `${percent(share as number)} distinct`}`,
            )
            .join('; ')
    }${seen}`,
    actual: { ...actual, entries: shares?.entries ?? 0 },
    limit,
    sampleKeys: [],
  }
}
