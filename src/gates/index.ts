import type { GateLimits } from '../../schemas/gates.ts'
import type { GateResult } from '../../schemas/refresh.ts'
import { changeVolume } from './change-volume.ts'
import { distinctShare } from './distinct-share.ts'
import { drift } from './drift.ts'
import type { Gate, GateSubject } from './gate.ts'
import { integrity } from './integrity.ts'
import { nullShare } from './null-share.ts'
import { requiredKeys } from './required-keys.ts'
import { rowCounts } from './row-counts.ts'
import { sourceSchema } from './source-schema.ts'
import { uniqueness } from './uniqueness.ts'
import { valueSchema } from './value-schema.ts'

/** All run, whatever the first ones say: the evidence is whole. */
const GATES: readonly Gate[] = [sourceSchema, uniqueness, rowCounts, changeVolume, drift, integrity]

/** These where the definition declares them for the index. */
function declaredFor(
  index: string,
  { columns, requiredKeys: keys, valueSchema: schemas }: GateLimits,
): readonly Gate[] {
  const limits = Object.values(columns?.[index] ?? {})
  return [
    ...(keys?.[index] === undefined ? [] : [requiredKeys]),
    ...(limits.some((column) => column.nullShare) ? [nullShare] : []),
    ...(limits.some((column) => column.distinctShare) ? [distinctShare] : []),
    ...(schemas?.[index] === undefined ? [] : [valueSchema]),
  ]
}

/** Whether what was written reads back: else nothing that it says is worth judging. */
export function isSound(results: readonly GateResult[]): boolean {
  return results.every(({ gate, verdict }) => gate !== 'integrity' || verdict === 'pass')
}

export async function judge(
  subjects: readonly GateSubject[],
  limits: GateLimits,
  done: (result: GateResult) => void,
): Promise<GateResult[]> {
  const results: GateResult[] = []
  for (const subject of subjects) {
    const judgeAll = async (gates: readonly Gate[]) => {
      // Side by side: drift waits for PostgreSQL while integrity reads the store.
      const judged = gates.map(async (gate) => {
        const result = await gate(subject, limits)
        done(result)
        return result
      })
      // All of them, so that none is left to fail unheard.
      for (const outcome of await Promise.allSettled(judged)) {
        if (outcome.status === 'rejected') throw outcome.reason
        results.push(outcome.value)
      }
    }
    await judgeAll(GATES)
    if (isSound(results)) await judgeAll(declaredFor(subject.index, limits))
  }
  return results
}
