import type { Gate, GateSubject } from './gate.ts'

/** Compares the source with the version. What changed since the watermark is set aside or folded back, so a difference is never a false alarm. */
export const drift: Gate = async (subject, { drift: limits }) => {
  if (limits.mode === 'off' || subject.drift === null) {
    const why = subject.drift === null ? 'its source cannot be asked for a key' : 'switched off in the definition'
    return {
      gate: 'drift',
      index: subject.index,
      verdict: 'pass',
      summary: `not compared: ${why}`,
      actual: {},
      limit: {},
      sampleKeys: [],
    }
  }
  const lately = limits.everyMs === undefined ? null : await comparedLately(subject, limits.everyMs)
  if (lately !== null) {
    return {
      gate: 'drift',
      index: subject.index,
      verdict: 'pass',
      summary: `a version before it was compared at ${lately}, lately enough`,
      actual: { comparedAt: lately },
      limit: { everyMs: limits.everyMs ?? null },
      sampleKeys: [],
    }
  }
  const found = await subject.drift({ mode: limits.mode, sample: limits.sample })
  if (found.notCompared !== null) {
    return {
      gate: 'drift',
      index: subject.index,
      verdict: 'warn',
      summary: `not compared: ${found.notCompared}`,
      actual: { compared: 0, setAside: found.setAside },
      limit: { different: 0 },
      sampleKeys: [],
    }
  }
  return {
    gate: 'drift',
    index: subject.index,
    verdict: found.differentCount === 0 ? 'pass' : 'reject',
    summary:
      found.differentCount === 0
        ? `${found.compared} keys equal in source and version${found.bothWays ? ', both ways' : ''}${found.setAside > 0 ? `; ${found.setAside} set aside, changed since the watermark` : ''}`
        : `${found.differentCount} of ${found.compared} keys differ between source and version`,
    actual: { compared: found.compared, setAside: found.setAside, different: found.differentCount },
    limit: { different: 0 },
    sampleKeys: found.different.slice(0, 10),
  }
}

/** A full build has nothing from the version before it. */
async function comparedLately(subject: GateSubject, everyMs: number): Promise<string | null> {
  if (subject.evidence.build === 'full') return null
  const at = await subject.comparedAt()
  return at !== null && Date.now() - at.getTime() < everyMs ? at.toISOString() : null
}
