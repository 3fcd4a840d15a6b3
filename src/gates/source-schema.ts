import type { Gate } from './gate.ts'

/** The shape of the entries changed since the parent: its columns, their types, or the definition itself. */
export const sourceSchema: Gate = async ({ index, evidence }, { sourceSchema: limits }) => {
  const changed = evidence.formerShape !== null
  return {
    gate: 'sourceSchema',
    index,
    verdict: changed ? limits.verdict : 'pass',
    summary: changed
      ? `the shape changed from ${evidence.formerShape} to ${evidence.shape}`
      : `shape ${evidence.shape}${evidence.parentCount === 0 ? '' : ', as before'}`,
    actual: { shape: evidence.shape },
    limit: { shape: evidence.formerShape ?? evidence.shape },
    sampleKeys: [],
  }
}
