import type { Gate } from './gate.ts'

/** One key, one value, where the definition does not say `many`. */
export const uniqueness: Gate = async ({ index, kind, evidence }) => {
  const { count, sampleKeys } = evidence.duplicates
  return {
    gate: 'uniqueness',
    index,
    verdict: count === 0 ? 'pass' : 'reject',
    summary:
      count > 0
        ? `${count} ${count === 1 ? 'key has' : 'keys have'} more than one value (\`snapflip show\` with --keys tells which); make the key unique, or declare the index as \`many\``
        : kind === 'many'
          ? 'a `many` index may repeat its keys'
          : 'every key has one value',
    actual: { duplicateKeys: count },
    limit: { duplicateKeys: 0 },
    sampleKeys: sampleKeys.slice(0, 10),
  }
}
