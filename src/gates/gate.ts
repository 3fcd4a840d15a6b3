import type { IndexEvidence } from '../../schemas/evidence.ts'
import type { GateLimits } from '../../schemas/gates.ts'
import type { GateResult, Verdict } from '../../schemas/refresh.ts'
import type { Change } from '../snapshot/changes.ts'
import type { KeyAndValue } from '../snapshot/read.ts'
import type { GoodVersion } from './baseline.ts'
import type { ColumnShares } from './column-shares.ts'

/** What re-reading an index from its store found, compared with its pages and its manifest. */
export interface Reread {
  count: number
  blocks: number
  bytes: number
  /** The parent whose blocks it shares, unread but for their totals; null when all was read. */
  shares: string | null
  /** Differences found, each one sentence that names the block or page; empty when all is as sealed. */
  faults: string[]
}

/** What comparing source and version found. */
export interface Drift {
  compared: number
  /** Keys not compared because they changed since the watermark. */
  setAside: number
  /** Keys (hashed) whose entries differ. */
  different: string[]
  differentCount: number
  /** Why nothing could be compared; null when it was. */
  notCompared: string | null
  /** Whether keys of the version were looked up in the source too, not only the other way round. */
  bothWays: boolean
}

/** One index of the candidate, and how a gate can look closer. */
export interface GateSubject {
  index: string
  kind: 'unique' | 'many'
  evidence: IndexEvidence
  /** What the last good versions changed of this index, newest first, at most so many. */
  history(versions: number): Promise<readonly GoodVersion[]>
  /** What it holds: about `sample` entries by blocks drawn at random, or all without. */
  entries(sample?: number): AsyncIterable<readonly KeyAndValue[]>
  /** Those of the keys that it does not have. */
  missing(keys: readonly Buffer[]): Promise<Buffer[]>
  /** What it has otherwise than its parent. */
  changes(): AsyncIterable<readonly Change[]>
  /** Shares of the declared columns, counted once for the gates that judge them; null where none are declared. */
  columns: (() => Promise<ColumnShares>) | null
  /** Reads every block of the index again that this version wrote. */
  reread(): Promise<Reread>
  /** When the version that it was built upon was last compared with the source, by itself or one before it; null: not at all, or in vain. */
  comparedAt(): Promise<Date | null>
  /** Compares with the source; null for an index whose source cannot be asked (events). */
  drift: ((options: { mode: 'sample' | 'full'; sample: number }) => Promise<Drift>) | null
}

/**
 * A gate is one check of a candidate. It returns its result with evidence, pass or fail; it throws only when it is itself broken.
 */
export type Gate = (subject: GateSubject, limits: GateLimits) => Promise<GateResult>

const WEIGHT: Record<Verdict, number> = { pass: 0, warn: 1, hold: 2, reject: 3 }

export function heaviest(verdicts: readonly Verdict[]): Verdict {
  return verdicts.reduce<Verdict>((worst, verdict) => (WEIGHT[verdict] > WEIGHT[worst] ? verdict : worst), 'pass')
}
