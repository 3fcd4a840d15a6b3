import type { RefreshStatus } from './refresh.ts'

export interface ContinuousRun {
  at: string
  status: RefreshStatus
  summary: string
}

/** Answer of the `state` query of continuous mode. */
export interface ContinuousState {
  /** Why, as whoever paused it said; null when it is not. */
  paused: string | null
  /** Newest first. */
  runs: ContinuousRun[]
  doing: string
}

/** Persons who wait for a run of their own; another is told to try again. */
export const TRIGGERED_MAX = 10

/** What starts continuous mode, and what one run hands to the next. */
export interface ContinuousRequest {
  dataset: string
  atMostEveryMs: number
  paused?: string | null
  runs?: ContinuousRun[]
  /** Null: refresh first, then look. `since`: changes up to this snapshot were refused by a gate. */
  look?: { since: string | null } | null
  /** Of persons who triggered it, and wait for their run. */
  tickets?: string[]
}
