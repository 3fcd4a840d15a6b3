import type { ColumnLimits } from '../../schemas/gates.ts'
import type { GateResult, Verdict } from '../../schemas/refresh.ts'
import { type ColumnShares, lookedAt } from './column-shares.ts'
import { type Gate, heaviest } from './gate.ts'

/** What a gate finds of one column. Null: the definition declares nothing of it. */
type JudgeColumn = (
  declared: ColumnLimits,
  column: string,
  counted: ColumnShares['columns'][string] & { entries: number },
) => { verdict: Verdict; text: string; actual: number | null; limit: number | string } | null

/** A gate that judges each declared column by the shares that were counted of it. */
export function columnGate(gate: GateResult['gate'], judge: JudgeColumn): Gate {
  return async ({ index, evidence, columns }, limits) => {
    const shares = await columns?.()
    const found = Object.entries(limits.columns?.[index] ?? {}).flatMap(([column, declared]) => {
      const counted = shares?.columns[column]
      const one = counted === undefined ? null : judge(declared, column, { ...counted, entries: shares?.entries ?? 0 })
      return one === null ? [] : [{ column, ...one }]
    })
    const refused = found.filter(({ verdict }) => verdict !== 'pass')
    const told = (refused.length > 0 ? refused : found).map(({ text }) => text).join('; ')
    return {
      gate,
      index,
      verdict: heaviest(refused.map(({ verdict }) => verdict)),
      summary: shares === undefined ? told : `${told} (${lookedAt(shares, evidence.count)})`,
      actual: {
        ...Object.fromEntries(found.map(({ column, actual }) => [column, actual])),
        entries: shares?.entries ?? 0,
      },
      limit: Object.fromEntries(found.map(({ column, limit }) => [column, limit])),
      sampleKeys: [],
    }
  }
}

export const percent = (share: number) => `${Number((100 * share).toFixed(2))} %`
