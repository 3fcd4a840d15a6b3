import { setTimeout as sleep } from 'node:timers/promises'
import type { CounterReport } from '../schemas/counters.ts'
import type { Pointer } from '../schemas/pointer.ts'
import type { GateResult, Verdict } from '../schemas/refresh.ts'
import type { CanaryPolicy } from '../schemas/watch.ts'
import { canaryResult, probeResult, worseIn } from '../src/core/canary-judgement.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { LOOKS, lookDue } from '../src/core/looks.ts'
import { type Comparison, compareReaders, countsOf } from '../src/core/reader-comparison.ts'
import { type CanaryRow, canaryOf } from '../src/registry/canaries.ts'
import { gateResults } from '../src/registry/gate-results.ts'
import { judgeCanary } from '../src/registry/judge-canary.ts'
import { rampCanary } from '../src/registry/ramp-canary.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'
import { requireWhole } from './flip.ts'
import { followAll } from './follow.ts'
import { probeVersions } from './probe.ts'
import { repair } from './reconcile.ts'
import { reportsOf } from './reports.ts'
import { throughRestarts } from './through-restarts.ts'

export interface WatchCanaryRequest {
  dataset: string
  canaryId: string
  policy: CanaryPolicy
}

/** At least this often it is looked whether the canary goes on, however long it is. */
const POLL_MS = 2_000

/**
 * Watches a canary until it is judged, at most for the time that was declared: what readers count on both sides, or, where they are too few, a probe.
 * Refused, readers are back on the active version when this returns. Attempts after the first go on where that was.
 *
 * @throws SnapflipError CONFLICT when a flip, a rollback or a quarantine ended the canary, ON_HOLD when a person did.
 */
export const watchCanary =
  (deps: Deps) =>
  ({ dataset, canaryId, policy }: WatchCanaryRequest): Promise<{ verdict: Verdict; summary: string }> =>
    asActivity(async (tell, signal) => {
      const store = await deps.store(dataset)
      const canary = await canaryOf(deps.pool, canaryId)
      if (canary === null) throw new Error(`canary ${canaryId} of ${dataset} was never begun`)
      const verdict =
        canary.verdict ??
        (await judged(deps, store, canary, await watched(deps, store, canary, policy, { tell, signal })))
      if (isRefused(verdict)) {
        await throughRestarts(
          () => changePointer(store.pointer, { kind: 'endCanary', canaryId }, { dataset }),
          () => repair(deps, store, { dataset, tell, signal }),
        )
        await followAll(deps, { dataset, tell, signal })
      }
      const results = await gateResults(deps.pool, dataset, canary.tag)
      const { summary } = results.findLast(({ gate }) => gate === 'canary') as GateResult
      deps.log.info({ dataset, step: 'canary', version: canary.tag, verdict, canaryId }, summary)
      return { verdict, summary: `canary: ${summary}` }
    })

/** Where the registry does not answer, readers leave a bad candidate even so; the next attempt finds the canary ended. */
async function judged(
  deps: Deps,
  store: Store,
  { dataset, canaryId }: CanaryRow,
  result: GateResult,
): Promise<Verdict> {
  try {
    return await judgeCanary(deps.pool, { canaryId, result })
  } catch (error) {
    if (isRefused(result.verdict)) await changePointer(store.pointer, { kind: 'endCanary', canaryId }, { dataset })
    throw error
  }
}

function isRefused(verdict: Verdict): boolean {
  return verdict === 'hold' || verdict === 'reject'
}

interface Watching {
  tell: (progress: string) => void
  signal: AbortSignal
}

async function watched(
  deps: Deps,
  store: Store,
  canary: CanaryRow,
  policy: CanaryPolicy,
  watching: Watching,
): Promise<GateResult> {
  const { canaryId, tag, endsAt, intendedAt, elapsedMs } = canary
  if (canary.share === null) return probed(deps, store, canary, policy, watching, 'no reader is asked, as declared')
  const forMs = endsAt.getTime() - intendedAt.getTime()
  const startedAt = performance.now() - elapsedMs
  for (let looked = 0; ; ) {
    const sinceBegun = performance.now() - startedAt
    const pointer = (await store.pointer.read())?.pointer ?? null
    requireRunning(pointer, canary)
    await ramp(deps, store, pointer, canary, policy, { part: sinceBegun / forMs, ...watching })
    const look = lookDue({ elapsedMs: sinceBegun, forMs })
    if (look > looked) {
      looked = look
      const comparison = compare(await reportsOf(deps, canary.dataset, canaryId), tag, policy, look)
      watching.tell(`look ${look} of ${LOOKS}: ${comparison.reads} reads, ${comparison.readers} readers on either side`)
      if (worseIn(comparison).length > 0) return canaryResult(comparison, policy)
      if (look >= LOOKS / 2 && !comparison.isEnough) {
        const { reads, readers } = comparison
        const why = `too few to judge by: ${reads} reads by ${readers} readers on either side when half of the time was over`
        return probed(deps, store, canary, policy, watching, why)
      }
      if (look === LOOKS) return canaryResult(comparison, policy)
    }
    await sleep(Math.max(1, Math.min(POLL_MS, ((looked + 1) * forMs) / LOOKS - sinceBegun)), undefined, {
      signal: watching.signal,
    })
  }
}

function compare(reports: readonly CounterReport[], tag: string, policy: CanaryPolicy, look: number): Comparison {
  const of = (side: CounterReport['side']) =>
    reports
      .filter((report) => report.side === side && (report.tag === tag) === (side === 'candidate'))
      .map((report) => countsOf(report, policy.slowMs))
  return compareReaders({ judged: of('candidate'), other: of('active') }, policy, look)
}

/** A person's hold ends it too: nothing would be flipped afterwards, and readers are not left on what nobody goes on with. */
function requireRunning(pointer: Pointer | null, { dataset, canaryId, tag }: CanaryRow): void {
  if (pointer?.hold != null) {
    const { by, reason } = pointer.hold
    throw new SnapflipError(
      'ON_HOLD',
      `${dataset} is on hold by ${by} (${reason}), expected no hold during the canary of ${tag}. \`snapflip resume ${dataset}\` lifts it.`,
      { dataset, canaryId },
    )
  }
  if (pointer?.candidate?.canaryId === canaryId) return
  throw new SnapflipError(
    'CONFLICT',
    `Expected the canary of ${tag} of ${dataset} to run, found it ended by another change of the pointer. See \`snapflip history ${dataset}\`.`,
    { dataset, canaryId, tag },
  )
}

/** Each share for an equal part of the time. */
async function ramp(
  deps: Deps,
  store: Store,
  pointer: Pointer | null,
  { dataset, canaryId }: CanaryRow,
  { share, ramp }: CanaryPolicy,
  { part, tell, signal }: Watching & { part: number },
): Promise<void> {
  const shares = [share, ...ramp]
  const due = shares[Math.min(shares.length - 1, Math.floor(part * shares.length))] as number
  const candidate = pointer?.candidate ?? null
  if (candidate === null || candidate.share >= due) return
  const looking = { dataset, tell, signal }
  await rampCanary(deps.pool, { dataset, canaryId, share: due })
  await throughRestarts(
    () => changePointer(store.pointer, { kind: 'ramp', canaryId, share: due }, { dataset }),
    async () => {
      await requireWhole(store, looking, candidate.version)
      await repair(deps, store, looking)
    },
  )
  await followAll(deps, looking)
}

async function probed(
  deps: Deps,
  store: Store,
  { dataset, canaryId, tag }: CanaryRow,
  policy: CanaryPolicy,
  { tell, signal }: Watching,
  why: string,
): Promise<GateResult> {
  tell('probing')
  const asked = { dataset, candidate: tag, watchId: canaryId, keysMax: policy.probe.keys, tell, signal }
  return probeResult(await probeVersions(deps, store, asked), policy, why)
}
