import { SAMPLE_ENTRIES, type ValueSchemaLimits } from '../../schemas/gates.ts'
import { hashedKey } from '../snapshot/hashed-key.ts'
import type { KeyAndValue } from '../snapshot/read.ts'
import type { Gate, GateSubject } from './gate.ts'
import { compileSchema } from './json-schema.ts'

const SAMPLE_KEYS = 10
/** Parts of the schema that are named; the rest is counted. */
const PATHS_MAX = 5

/** Values that are not what the definition says they are. Evidence has the part of the schema that refused them, and hashes of keys; never a value. */
export const valueSchema: Gate = async (subject, limits) => {
  const { index, evidence } = subject
  const declared = limits.valueSchema?.[index]
  if (declared === undefined) throw new Error(`no value schema is declared for ${index}`)
  const validate = compileSchema(declared.schema)
  const paths = new Map<string, number>()
  const sampleKeys: string[] = []
  let judged = 0
  let failed = 0
  for await (const batch of entriesToJudge(subject, declared))
    for (const { key, value } of batch) {
      judged++
      if (validate(JSON.parse(value.toString('utf8')))) continue
      failed++
      const path = validate.errors?.[0]?.schemaPath ?? '#'
      paths.set(path, (paths.get(path) ?? 0) + 1)
      if (sampleKeys.length < SAMPLE_KEYS) sampleKeys.push(hashedKey(key))
    }
  const told = [...paths].sort(([, a], [, b]) => b - a).slice(0, PATHS_MAX)
  const seen = `${judged} ${declared.judge === 'changed' && evidence.build !== 'full' ? 'changed ' : ''}entries`
  const of =
    declared.judge === 'sample' && judged < evidence.count ? `a sample of ${judged} of ${evidence.count} entries` : seen
  return {
    gate: 'valueSchema',
    index,
    verdict: failed === 0 ? 'pass' : declared.verdict,
    summary:
      failed === 0
        ? `${of} are as the schema says`
        : `${failed} of ${of} are not as the schema says: ${told.map(([path, count]) => `${path} (${count})`).join(', ')}${paths.size > told.length ? ` and ${paths.size - told.length} more parts of it` : ''}`,
    actual: { judged, failed },
    limit: { failed: 0 },
    sampleKeys,
  }
}

async function* entriesToJudge(
  { evidence, entries, changes }: GateSubject,
  { judge, sample = SAMPLE_ENTRIES }: ValueSchemaLimits,
): AsyncGenerator<readonly KeyAndValue[]> {
  if (judge === 'sample' && sample < evidence.count) return yield* entries(sample)
  if (judge !== 'changed' || evidence.build === 'full') return yield* entries()
  if (evidence.build === 'unchanged') return
  for await (const batch of changes())
    yield batch.flatMap(({ key, after }) => (after === null ? [] : [{ key, value: after }]))
}
