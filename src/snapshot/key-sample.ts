/** Keys kept as samples; all are counted. */
const SAMPLE_KEYS = 10

/** Keys as UTF-8 text, at most a few: for evidence, to be hashed where evidence is not private. */
export interface KeySample {
  count: number
  keys: string[]
}

export function sampleKey(into: KeySample, bytes: Buffer, start: number, end: number, times = 1): void {
  into.count += times
  if (into.keys.length < SAMPLE_KEYS) into.keys.push(bytes.toString('utf8', start, end))
}
