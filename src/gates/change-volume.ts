import type { GateLimits } from '../../schemas/gates.ts'
import type { GateResult, Verdict } from '../../schemas/refresh.ts'
import { formatBytes } from '../core/format-bytes.ts'
import { changesOf, DIRECTIONS, type Direction, type GoodVersion, type Usual, usual } from './baseline.ts'
import { type Gate, heaviest } from './gate.ts'

const WORDS: Record<Direction, string> = {
  inserted: 'inserted',
  updated: 'updated',
  deleted: 'deleted',
  bytesGrown: 'more',
  bytesShrunk: 'less',
}

/**
 * Too much changed at once, by direction: over the percentage of the parent's entries and over the absolute minimum; or little left. Where it is
 * calibrated, what the dataset's own good versions changed narrows a limit, never below its absolute minimum and never beyond what is declared.
 */
export const changeVolume: Gate = async ({ index, evidence, history }, { changeVolume: limits }) => {
  const findings: Array<{ verdict: Verdict; text: string }> = []
  // What is known is judged even so: the counts differ by at least that much.
  if (evidence.notCompared !== null) {
    findings.push({ verdict: 'warn', text: `not compared with what was there before: ${evidence.notCompared}` })
  }
  const actual: GateResult['actual'] = { parent: evidence.parentCount }
  const limit: GateResult['limit'] = {}
  const { calibrate } = limits
  const good = calibrate === undefined ? [] : await history(calibrate.versions)
  const changes = changesOf(evidence)
  const uncalibrated: Direction[] = []
  for (const direction of DIRECTIONS) {
    const declared = declaredLimit(limits, direction)
    const changed = changes[direction]
    if (declared === undefined) continue
    actual[direction] = changed
    const isBytes = direction === 'bytesGrown' || direction === 'bytesShrunk'
    const parent = isBytes ? (evidence.parentBytes ?? 0) : evidence.parentCount
    const wall = Math.max(declared.atLeast, Math.floor((declared.percent / 100) * parent))
    const found = calibrate === undefined ? null : usual(good, direction, calibrate)
    const allowed = found === null ? wall : Math.min(wall, Math.max(declared.atLeast, found.limit))
    limit[direction] = allowed
    if (found === null) uncalibrated.push(direction)
    else {
      limit[`${direction}Median`] = found.median
      limit[`${direction}Mad`] = found.mad
    }
    if (parent > 0 && changed !== null && changed > allowed) {
      const say = isBytes ? formatBytes : String
      const share = ((100 * changed) / parent).toFixed(1)
      findings.push({
        verdict: declared.verdict,
        text: `${say(changed)} ${WORDS[direction]} (${share} % of ${say(parent)}), allowed are ${say(allowed)}${allowed < wall ? usually(found, say) : ''}`,
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
  const summary =
    findings.length > 0
      ? findings.map((finding) => finding.text).join('; ')
      : evidence.parentCount === 0
        ? `${evidence.count} entries, the first version`
        : `${evidence.inserted} inserted, ${evidence.updated ?? 'unknown'} updated, ${evidence.deleted} deleted of ${evidence.parentCount}`
  const baseline = calibrate === undefined ? null : baselineText(good, calibrate.minimum, uncalibrated)
  if (baseline !== null) limit.baseline = baseline
  return {
    gate: 'changeVolume',
    index,
    verdict: heaviest(findings.map((finding) => finding.verdict)),
    summary: baseline === null ? summary : `${summary}; by ${baseline}`,
    actual,
    limit,
    sampleKeys: [],
  }
}

function declaredLimit({ bytes, ...entries }: GateLimits['changeVolume'], direction: Direction) {
  if (direction === 'bytesGrown') return bytes?.grown
  if (direction === 'bytesShrunk') return bytes?.shrunk
  return entries[direction]
}

const usually = (found: Usual | null, say: (amount: number) => string) =>
  found === null ? '' : ` (usual are ${say(found.median)}, median of ${found.versions} versions)`

/** Versions of which a change was not counted in one direction say nothing of that one: there the declared limit stands. */
function baselineText(good: readonly GoodVersion[], minimum: number, uncalibrated: readonly Direction[]): string {
  if (good.length < minimum) return `declared limits: only ${good.length} of ${minimum} versions of history`
  const calibrated = `median and MAD of ${good.length} versions, ${good.at(-1)?.tag} to ${good[0]?.tag}`
  if (uncalibrated.length === 0) return calibrated
  return `${calibrated}; declared limits for ${uncalibrated.join(', ')}: known of fewer than ${minimum} of these`
}
