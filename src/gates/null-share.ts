import type { GateResult, Verdict } from '../../schemas/refresh.ts'
import { lookedAt } from './column-shares.ts'
import { type Gate, heaviest } from './gate.ts'

/** Columns of the value that lost their contents: more nulls than declared. */
export const nullShare: Gate = async ({ index, evidence, columns }, limits) => {
  const findings: Array<{ verdict: Verdict; text: string }> = []
  const actual: GateResult['actual'] = {}
  const limit: GateResult['limit'] = {}
  const shares = await columns?.()
  for (const [column, { nullShare }] of Object.entries(limits.columns?.[index] ?? {})) {
    const counted = shares?.columns[column]
    if (nullShare === undefined || shares === undefined || counted === undefined) continue
    const share = shares.entries === 0 ? 0 : counted.nulls / shares.entries
    actual[column] = share
    limit[column] = nullShare.max
    if (share > nullShare.max)
      findings.push({
        verdict: nullShare.verdict,
        text: `${column} is null in ${percent(share)}, at most ${percent(nullShare.max)} may be`,
      })
  }
  const seen = shares === undefined ? '' : ` (${lookedAt(shares, evidence.count)})`
  return {
    gate: 'nullShare',
    index,
    verdict: heaviest(findings.map((finding) => finding.verdict)),
    summary: `${
      findings.length > 0
        ? findings.map((finding) => finding.text).join('; ')
        : Object.entries(actual)
            .map(([column, share]) => `${column} is null in ${percent(share as number)}`)
            .join('; ')
    }${seen}`,
    actual: { ...actual, entries: shares?.entries ?? 0 },
    limit,
    sampleKeys: [],
  }
}

export const percent = (share: number) => `${Number((100 * share).toFixed(2))} %`
