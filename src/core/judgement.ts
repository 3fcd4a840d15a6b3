import { type GateResult, type Verdict, verdictSchema } from '../../schemas/refresh.ts'

/** What the gates say together: the heaviest verdict, and which of them gave it; `why` is empty when all passed. */
export function judgementOf(results: readonly GateResult[]): { verdict: Verdict; why: string } {
  const order = verdictSchema.options
  const verdict = order[Math.max(0, ...results.map((result) => order.indexOf(result.verdict)))] ?? 'pass'
  const telling = results.filter((result) => result.verdict === verdict && verdict !== 'pass')
  return { verdict, why: telling.map((result) => `${result.gate} of ${result.index}: ${result.summary}`).join('; ') }
}
