import { z } from 'zod'
import type { FunctionGate } from '../../schemas/gates.ts'
import { type Verdict, verdictSchema } from '../../schemas/refresh.ts'
import { isSnapflipError } from '../core/errors.ts'
import { encodeKey } from '../snapshot/entry.ts'
import { hashedKey } from '../snapshot/hashed-key.ts'
import { BrokenGate, type Found, partsOf, type VersionSubject } from './user.ts'

/** One entry that the version has otherwise than its parent, as JSON.parse gives it. Null: it was not there, or is no more. */
export interface JudgedChange {
  index: string
  /** The parts of a key of several parts. */
  key: string | string[]
  before: unknown
  after: unknown
}

/** What a function gate is given. */
export interface FunctionSubject {
  dataset: string
  /** Tag of the version, and of the one it was built upon. */
  version: string
  parent: string | null
  /** Of each index. */
  counts: Readonly<Record<string, { count: number; inserted: number; updated: number | null; deleted: number }>>
  /** All of them, read as they are asked for. */
  changes(): AsyncIterable<JudgedChange>
  /** Aborts at the time limit, and when the refresh is cancelled. */
  signal: AbortSignal
}

/** `summary` and keys are kept: put no values into the former; of the latter hashes are kept. */
export interface FunctionAnswer {
  verdict: Verdict
  summary: string
  keys?: ReadonlyArray<{ index: string; key: string | readonly string[] }>
}

/** A gate of the user's own. What it throws, and a time limit that passes, is a broken gate: as `broken` declares. */
export type GateFunction = (subject: FunctionSubject) => FunctionAnswer | Promise<FunctionAnswer>

/** `<dataset>/<gate>` → what the definition file declares for it. */
export type GateFunctions = ReadonlyMap<string, GateFunction>

const answerSchema = z.object({
  verdict: verdictSchema,
  summary: z.string().min(1),
  keys: z.array(z.object({ index: z.string(), key: z.union([z.string(), z.array(z.string())]) })).optional(),
})

const SUMMARY_CHARS_MAX = 500
const SAMPLE_KEYS = 10

/** Has a function of the definition judge the version. One that throws, gives no verdict or does not end in time is broken. */
export async function askFunction(gate: FunctionGate, subject: VersionSubject, judge: GateFunction): Promise<Found> {
  const timeout = AbortSignal.timeout(gate.timeoutMs)
  const signal = AbortSignal.any([timeout, subject.signal])
  const ended = new Promise<never>((_, fail) => {
    const fails = () => fail(new BrokenGate(`it took longer than ${gate.timeoutMs} ms`, { isOutOfTime: true }))
    signal.addEventListener('abort', fails, { once: true })
    // Cancelled before it was asked: no event comes any more.
    if (signal.aborted) fails()
  })
  // Told by whoever comes first.
  ended.catch(() => undefined)
  const { dataset, tag: version, parent, evidence: counts } = subject
  const changes = () => changesAsValues(subject, signal)
  const given = async () => judge({ dataset, version, parent, counts, changes, signal })
  const answer = await Promise.race([given(), ended]).catch((error: unknown) => {
    if (error instanceof BrokenGate || isSnapflipError(error)) throw error
    // Its message may hold what it read.
    throw new BrokenGate(`it threw ${error instanceof Error ? error.name : typeof error}`)
  })
  const parsed = answerSchema.safeParse(answer)
  if (!parsed.success)
    throw new BrokenGate(
      'expected { verdict: "pass", "warn", "hold" or "reject", summary: "…" } from it, found another answer',
    )
  const { verdict, summary, keys = [] } = parsed.data
  return {
    verdict,
    summary: summary.slice(0, SUMMARY_CHARS_MAX),
    actual: { keys: keys.length },
    sampleKeys: keys.slice(0, SAMPLE_KEYS).map(({ key }) => hashedKey(encodeKey([key].flat()))),
  }
}

async function* changesAsValues(subject: VersionSubject, signal: AbortSignal): AsyncGenerator<JudgedChange> {
  const value = (bytes: Buffer | null): unknown => (bytes === null ? null : JSON.parse(bytes.toString('utf8')))
  for await (const batch of subject.changes())
    for (const { index, key, before, after } of batch) {
      signal.throwIfAborted()
      yield { index, key: partsOf(key, subject.keyParts(index)), before: value(before), after: value(after) }
    }
}
