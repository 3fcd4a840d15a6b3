import { type GateResult, type Verdict, verdictSchema, type Waived } from '../../schemas/refresh.ts'

const AGAINST: Readonly<Record<Verdict, boolean>> = { pass: false, warn: false, hold: true, reject: true }

/** Whether it speaks against the version, and nobody has waived that. */
export function isAgainst({ verdict, waived }: Pick<GateResult, 'verdict' | 'waived'>): boolean {
  return AGAINST[verdict] && !waived
}

/**
 * What the gates say together: the heaviest verdict, and which of them gave it; `why` is empty when all passed. One that was waived counts as a
 * warning.
 */
export function judgementOf(results: readonly GateResult[]): { verdict: Verdict; why: string } {
  const order = verdictSchema.options
  const counted = (result: GateResult): Verdict =>
    AGAINST[result.verdict] && !isAgainst(result) ? 'warn' : result.verdict
  const verdict = order[Math.max(0, ...results.map((result) => order.indexOf(counted(result))))] ?? 'pass'
  const telling = results.filter((result) => counted(result) === verdict && verdict !== 'pass')
  return { verdict, why: telling.map(sentence).join('; ') }
}

function sentence({ gate, index, summary, waived }: GateResult): string {
  const found = `${gate}${index === null ? '' : ` of ${index}`}: ${summary}`
  return waived ? `${found} (${waivedText(waived)})` : found
}

export function waivedText({ by, until, reason }: Waived): string {
  return `waived by ${by} until ${until}: ${reason}`
}
