import { encodeKey } from '../snapshot/entry.ts'
import { hashedKey } from '../snapshot/hashed-key.ts'
import type { Gate } from './gate.ts'

/** Missing keys that are named; the rest is counted. */
const KEYS_MAX = 10

/** Keys that no version may lack. The summary names those that are missing: the definition has them in plain text. */
export const requiredKeys: Gate = async ({ index, missing }, limits) => {
  const declared = limits.requiredKeys?.[index]
  if (declared === undefined) throw new Error(`no required keys are declared for ${index}`)
  const { keys, verdict } = declared
  const wanted = new Map(keys.map((key) => [encodeKey([key].flat().map(String)).toString(), key]))
  const lacking = (await missing([...wanted.keys()].map((key) => Buffer.from(key)))).map(String)
  const told = lacking.slice(0, KEYS_MAX)
  const more = lacking.length - told.length
  return {
    gate: 'requiredKeys',
    index,
    verdict: lacking.length === 0 ? 'pass' : verdict,
    summary:
      lacking.length === 0
        ? `all ${wanted.size} required keys are there`
        : `${lacking.length} of ${wanted.size} required keys are missing: ${told.map((key) => JSON.stringify(wanted.get(key))).join(', ')}${more > 0 ? ` and ${more} more` : ''}`,
    actual: { missing: lacking.length },
    limit: { missing: 0 },
    sampleKeys: told.map(hashedKey),
  }
}
