import type { DatasetDefinition } from '../schemas/config.ts'
import { windowState } from '../src/core/windows.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { definitionOf } from './under-policy.ts'

/** Why a refresh may not begin now. */
export interface OutsideWindow {
  /** Until it is to be asked again; null: it does not wait. */
  waitMs: number | null
  summary: string
}

/** Whoever declares other windows meanwhile waits no longer for what waits. */
const LOOK_AGAIN_MS = 3_600_000
/** Timers of the server and clocks of workers differ; asked a moment too early, the window would be waited for again. */
const PAST_OPENING_MS = 500

/** Null: the dataset's windows are open, or it has none. */
export function outsideWindow({ windows }: DatasetDefinition, now = new Date()): OutsideWindow | null {
  if (windows === undefined) return null
  const { isOpen, changesAt } = windowState(windows, now)
  if (isOpen) return null
  const opens = changesAt === null ? 'and do not open again' : `until ${changesAt.toISOString()}`
  const waits = windows.outside === 'wait' && changesAt !== null
  return {
    waitMs: waits ? Math.min(LOOK_AGAIN_MS, changesAt.getTime() - now.getTime() + PAST_OPENING_MS) : null,
    summary: `${waits ? 'waits' : 'skipped'}: its windows are closed ${opens}`,
  }
}

/** For a refresh that stops when its window closes: null while it is open, else what becomes of the version it sealed. */
export const windowClosed =
  (deps: Deps) =>
  ({ dataset, tag }: { dataset: string; tag: string }): Promise<string | null> =>
    asActivity(async () => {
      const outside = outsideWindow(await definitionOf(deps, dataset))
      if (outside === null) return null
      return `${tag} is sealed and kept for the next refresh: its window closed before readers were moved`
    })
