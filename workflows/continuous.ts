import {
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  isCancellation,
  setHandler,
  sleep,
  workflowInfo,
} from '@temporalio/workflow'
import {
  type ContinuousRequest,
  type ContinuousRun,
  type ContinuousState,
  TRIGGERED_MAX,
} from '../schemas/continuous.ts'
import { failureMessage } from '../src/core/failure.ts'
import { watching } from './activities.ts'
import { failed } from './failed.ts'
import { runRefresh } from './run-refresh.ts'

export const pauseSignal = defineSignal<[string]>('pause')
export const unpauseSignal = defineSignal('unpause')
/** With the ticket of whoever asks; without one nobody does. */
export const triggerSignal = defineSignal<[ticket?: string]>('trigger')
/** The definition may be another one; so may how often is. */
export const appliedSignal = defineSignal<[number]>('applied')
export const stateQuery = defineQuery<ContinuousState>('state')

/** Runs that are told, and handed on. */
const RUNS_MAX = 10
/** A round is some fifteen events; the server asks for another run long before its limit, and this is for when it does not. */
const ROUNDS_MAX = 300
/** After a refresh that failed for good, or was skipped because of another one. */
const PAUSE_MS = { FAILED: 60_000, SKIPPED: 5_000 } as const

/**
 * Continuous mode: refreshes a dataset as soon as there is something new, at most every so often. An activity looks for that, so that waiting
 * writes no events; every so many rounds it goes on as a new run. It ends by being terminated (`apply` without `continuous`).
 */
export async function continuous({
  dataset,
  atMostEveryMs,
  paused = null,
  runs = [],
  look = null,
  tickets = [],
}: ContinuousRequest): Promise<void> {
  const state: ContinuousState = { paused, runs, doing: 'beginning' }
  let triggered = look === null
  // A ticket is for one run: whoever sees it here cannot have it count again.
  const seen = new Set(tickets)
  const isAsked = () => triggered || tickets.length > 0
  let since = look?.since ?? null
  let everyMs = atMostEveryMs
  let interrupt = () => {}
  setHandler(stateQuery, () => state)
  setHandler(pauseSignal, (note) => {
    state.paused = note
    interrupt()
  })
  setHandler(unpauseSignal, () => {
    state.paused = null
    interrupt()
  })
  setHandler(triggerSignal, (ticket) => {
    if (ticket === undefined) triggered = true
    else if (!seen.has(ticket) && tickets.length < TRIGGERED_MAX) tickets.push(ticket)
    if (ticket !== undefined) seen.add(ticket)
    interrupt()
  })
  setHandler(appliedSignal, (ms) => {
    everyMs = ms
    since = null
    triggered ||= state.paused === null
    interrupt()
  })

  for (let round = 0; round < ROUNDS_MAX && !workflowInfo().continueAsNewSuggested; round++) {
    if (!(await somethingNew())) continue
    triggered = false
    const begun = Date.now()
    const run = await refreshed(tickets.shift())
    state.runs = [run, ...state.runs].slice(0, RUNS_MAX)
    const restMs = run.status === 'FAILED' || run.status === 'SKIPPED' ? PAUSE_MS[run.status] : 0
    const leftMs = begun + Math.max(everyMs, restMs) - Date.now()
    // The server lets the shortest timer take a second, nearly: where no rest is left there is none.
    if (leftMs <= 0) continue
    state.doing = 'resting'
    await condition(isAsked, leftMs)
  }
  await continueAsNew<typeof continuous>({
    dataset,
    atMostEveryMs: everyMs,
    paused: state.paused,
    runs: state.runs,
    look: triggered ? null : { since },
    tickets,
  })

  /** False: something else came in between, and is looked at first. */
  async function somethingNew(): Promise<boolean> {
    if (isAsked()) return true
    if (state.paused !== null) {
      state.doing = 'paused'
      await condition(() => state.paused === null || isAsked())
      return false
    }
    state.doing = 'looking for something new'
    const scope = new CancellationScope()
    interrupt = () => scope.cancel()
    try {
      const found = await scope.run(() => watching().somethingNew({ dataset, since, ...refused() }))
      everyMs = found.atMostEveryMs
      if (found.seen === null) return false
      since = found.seen
      return true
    } catch (error) {
      // A signal came, or a worker stopped; cancelled as a whole, it ends.
      if (isCancellation(error)) {
        if (CancellationScope.current().consideredCancelled) throw error
        return false
      }
      state.doing = `could not look for something new: ${failureMessage(error)}`
      await sleep(PAUSE_MS.FAILED)
      return true
    } finally {
      interrupt = () => {}
    }
  }

  /** What changes were refused is known from the last run alone. */
  function refused(): { refusedAt?: string } {
    const last = state.runs[0]
    return since === null || last === undefined ? {} : { refusedAt: last.at }
  }

  async function refreshed(ticket: string | undefined): Promise<ContinuousRun> {
    const at = new Date().toISOString()
    state.doing = 'refreshing'
    try {
      const by = workflowInfo().workflowId
      const { status, summary } = await runRefresh({ dataset, by, reason: `continuous (${by})`, ticket })
      // What a gate refused is refused again until the source changes; all others moved the pointer, or are to be tried again.
      if (status !== 'HELD' && status !== 'REJECTED') since = null
      return { at, status, summary }
    } catch (error) {
      if (CancellationScope.current().consideredCancelled) throw failed(error)
      since = null
      return { at, status: isCancellation(error) ? 'CANCELLED' : 'FAILED', summary: failureMessage(error) }
    }
  }
}
