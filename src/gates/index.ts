import type { GateLimits } from '../../schemas/gates.ts'
import type { GateResult } from '../../schemas/refresh.ts'
import { changeVolume } from './change-volume.ts'
import { drift } from './drift.ts'
import type { Gate, GateSubject } from './gate.ts'
import { integrity } from './integrity.ts'
import { rowCounts } from './row-counts.ts'
import { sourceSchema } from './source-schema.ts'
import { uniqueness } from './uniqueness.ts'

/** All run, whatever the first ones say: the evidence is whole. */
const GATES: readonly Gate[] = [sourceSchema, uniqueness, rowCounts, changeVolume, drift, integrity]

export async function judge(
  subjects: readonly GateSubject[],
  limits: GateLimits,
  done: (result: GateResult) => void,
): Promise<GateResult[]> {
  const results: GateResult[] = []
  for (const subject of subjects) {
    // Side by side: drift waits for PostgreSQL while integrity reads the store.
    const judged = GATES.map(async (gate) => {
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
  return results
}
