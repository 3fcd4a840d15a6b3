import type { GateResult } from '../../schemas/refresh.ts'
import { waivedText } from '../core/judgement.ts'
import { table } from './table.ts'

/** What gates found, one line each; the keys they sampled below, by their hashes unless `keys` has them. */
export function gateTable(gates: readonly GateResult[], keys: ReadonlyMap<string, string> = new Map()): string {
  const rows = gates.map(({ gate, index, verdict, summary, waived }) => [
    verdict,
    gate,
    index,
    waived ? `${summary} (${waivedText(waived)})` : summary,
  ])
  const samples = gates
    .filter(({ sampleKeys }) => sampleKeys.length > 0)
    .map(
      ({ gate, index, sampleKeys }) =>
        `${gate}${index === null ? '' : ` of ${index}`}, some keys: ${sampleKeys.map((hash) => (keys.has(hash) ? JSON.stringify(keys.get(hash)) : hash)).join(', ')}`,
    )
  return [table(['verdict', 'gate', 'index', 'found'], rows), ...samples].join('\n')
}
