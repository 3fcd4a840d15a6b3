import { setTimeout as pause } from 'node:timers/promises'
import type { BuildEvidence } from '../../schemas/evidence.ts'
import type { UserGate } from '../../schemas/gates.ts'
import type { GateResult } from '../../schemas/refresh.ts'
import { type ErrorCode, isSnapflipError } from '../core/errors.ts'
import type { Change } from '../snapshot/changes.ts'

/** How often a gate that is broken is asked before that stands, and how long after. */
const TRIES = 3
const PAUSE_MS = 1_000

export interface IndexChange extends Change {
  index: string
}

/** The candidate as a whole. */
export interface VersionSubject {
  dataset: string
  tag: string
  digest: string
  /** SHA-256 of its manifest. */
  manifest: string
  /** Tag of the version it was built upon. */
  parent: string | null
  refreshId: string
  evidence: BuildEvidence
  /** How many parts a key of the index has; 0: any number. */
  keyParts(index: string): number
  /** All that it has otherwise than its parent. */
  changes(): AsyncIterable<readonly IndexChange[]>
  signal: AbortSignal
}

/** What a gate found, to be told under its name. */
export type Found = Pick<GateResult, 'verdict' | 'summary' | 'actual'> &
  Partial<Pick<GateResult, 'limit' | 'sampleKeys'>>

/** A gate that could not judge: no verdict, and never a pass. The message holds no value of a row. */
export class BrokenGate extends Error {
  override readonly name = 'BrokenGate'
  /** It had all the time that is declared: asked again it would take as much once more. */
  readonly isOutOfTime: boolean

  constructor(message: string, { isOutOfTime = false } = {}) {
    super(message)
    this.isOutOfTime = isOutOfTime
  }
}

/** Of errors with a code these are the gate's own; all others are snapflip's or the world's, and the activity is retried. */
const OF_THE_GATE: readonly ErrorCode[] = ['POSTGRES_FAILED', 'WEBHOOK_FAILED', 'WEBHOOK_REFUSED', 'CONFIG_INVALID']

/**
 * Has a gate of the definition judge the version. One that is broken is asked again while it has time, and then gives what it declares for that: hold or reject.
 *
 * @throws what is not the gate's fault, and when the refresh is cancelled.
 */
export async function judgeByUser(
  name: string,
  gate: UserGate,
  { signal }: VersionSubject,
  ask: () => Promise<Found>,
  pauseMs = PAUSE_MS,
): Promise<GateResult> {
  const told = (found: Found): GateResult => ({
    gate: `user:${name}`,
    index: null,
    limit: {},
    sampleKeys: [],
    ...found,
  })
  for (let tries = 1; ; tries++) {
    try {
      return told(await ask())
    } catch (error) {
      signal.throwIfAborted()
      const isBroken = error instanceof BrokenGate || (isSnapflipError(error) && OF_THE_GATE.includes(error.code))
      if (!isBroken) throw error
      const isWorthIt = error instanceof BrokenGate ? !error.isOutOfTime : error.retryable
      if (tries < TRIES && isWorthIt) {
        await pause(pauseMs, undefined, { signal })
        continue
      }
      const summary = `broken, so it does not pass: ${error.message}`
      return told({ verdict: gate.broken, summary, actual: { broken: error.message } })
    }
  }
}

/** A key as a text: one of several parts is the JSON array of them. */
export function keyText(key: Buffer, parts: number): string {
  const of = partsOf(key, parts)
  return typeof of === 'string' ? of : JSON.stringify(of)
}

export function partsOf(key: Buffer, parts: number): string | string[] {
  const text = key.toString('utf8')
  return parts === 1 || (parts === 0 && !text.includes('\0')) ? text : text.split('\0')
}
