import { setTimeout as sleep } from 'node:timers/promises'
import type { CounterReport } from '../schemas/counters.ts'
import { type BakeRequest, bakeRequestSchema } from '../schemas/refresh.ts'
import type { BakePolicy } from '../schemas/watch.ts'
import { type BakeJudgement, judgeBake, type Watched } from '../src/core/bake-judgement.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { LOOKS, lookDue } from '../src/core/looks.ts'
import { countsOf } from '../src/core/reader-comparison.ts'
import { type Bake, bakeOf } from '../src/registry/bakes.ts'
import { endBake } from '../src/registry/end-bake.ts'
import { type FlipKind, flipOf } from '../src/registry/flips.ts'
import { wasOvertaken } from '../src/registry/settle-flip.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Looking } from './damage.ts'
import { type Deps, datasetOf } from './deps.ts'
import { measureDrift } from './drift.ts'
import { asActivity } from './failure.ts'
import { followAll } from './follow.ts'
import { nextGood } from './next-good.ts'
import { notAsExpected } from './not-as-expected.ts'
import { readManifest } from './parent.ts'
import { parseRequest } from './parse-request.ts'
import { repair } from './reconcile.ts'
import { reportsOf } from './reports.ts'
import { throughRestarts } from './through-restarts.ts'
import { underApplied, underPolicy } from './under-policy.ts'

/** How the watch ended. */
export interface Baked {
  /** `left`: another flip or rollback came before the end. `unhealthy`: of a rollback, which nothing takes back by itself. */
  outcome: 'baked' | 'left' | 'unhealthy'
  summary: string
}

/** At least this often it is looked whether the version is still active. */
const POLL_MS = 2_000

/**
 * Watches a version after it became active, for the time that was declared: what readers count, and drift. Beyond its limits that is told, and
 * thrown as BAKE_FAILED where a rollback is to follow; a rollback's own target is only told of, with the version to go to next.
 */
export const watchBake =
  (own: Deps) =>
  (asked: BakeRequest): Promise<Baked> =>
    asActivity(async (tell, signal) => {
      // Typed by hand it may be anything: so what is watched, and by which limits, is the registry's to say.
      const request = parseRequest(bakeRequestSchema, asked, 'a bake, with "flipId" and "tag"')
      const { dataset, flipId, tag } = request
      const deps = await underPolicyOf(own, request)
      const policy = datasetOf(deps.config, dataset).bake
      const store = await deps.store(dataset)
      const looking = { dataset, tell, signal }
      const bake = await bakeOf(deps.pool, flipId)
      if (bake === null) throw cannotGoOn(request, 'the registry to know of it', 'no such flip, or one without a bake')
      // Judged by an attempt that did not live to say so: its word stands.
      let { outcome } = bake
      let judged = AS_BEFORE
      if (outcome === null) {
        if (policy === undefined) throw cannotGoOn(request, 'the definition to declare a bake', 'none')
        const seen = await watched(deps, store, request, { bake, policy }, looking)
        if (seen !== null && seen.beyond.length > 0)
          return await fail(deps, store, { ...request, kind: bake.kind }, seen)
        const { summary, evidence } = seen ?? AS_BEFORE
        outcome =
          seen === null
            ? 'cutShort'
            : await endBake(deps.pool, { flipId, outcome: 'baked', detail: { summary, ...evidence } })
        judged = seen ?? AS_BEFORE
      }
      if (outcome === 'failed') return await fail(deps, store, { ...request, kind: bake.kind }, judged)
      if (outcome === 'cutShort') {
        const active = (await store.pointer.read())?.pointer.active?.tag ?? 'no version'
        return { outcome: 'left', summary: `the bake of ${tag} was cut short: readers are on ${active}` }
      }
      await throughRestarts(
        () => changePointer(store.pointer, { kind: 'baked', flipId }, { dataset }),
        () => repair(deps, store, looking),
      )
      await followAll(deps, looking)
      deps.log.info({ dataset, version: tag, step: 'bake', flipId }, judged.summary)
      return { outcome: 'baked', summary: `baked: ${judged.summary}` }
    })

/** As the refresh was declared that flipped; as is applied now, for a flip that a person or a compensation made. */
async function underPolicyOf(own: Deps, { dataset, flipId }: BakeRequest): Promise<Deps> {
  const refreshId = (await flipOf(own.pool, flipId))?.refreshId ?? null
  return refreshId === null ? underApplied(own, dataset) : underPolicy(own, { dataset, refreshId })
}

/** Not that readers left it: it is told, and recorded as cut short. */
function cannotGoOn({ dataset, flipId, tag }: BakeRequest, expected: string, found: string): SnapflipError {
  const todo = `Look at its readers: \`snapflip status ${dataset}\`.`
  const goesOn = `${expected} for the watch over ${tag} of ${dataset} (flip ${flipId}) to go on`
  return notAsExpected(goesOn, found, todo, { dataset, flipId, tag })
}

const AS_BEFORE: BakeJudgement = { beyond: [], summary: 'as found before', evidence: {} }

/** What the last look, or the first one beyond the limits, found; null when the version was left before. */
async function watched(
  deps: Deps,
  store: Store,
  request: BakeRequest,
  { bake, policy }: { bake: Bake; policy: BakePolicy },
  looking: Looking,
): Promise<BakeJudgement | null> {
  const { dataset, flipId, tag } = request
  const { tell, signal } = looking
  const { forMs } = policy
  const startedAt = performance.now() - bake.elapsedMs
  // As it was at the flip: readers that have followed it report no more of the version before, and stores do not keep that for ever.
  const before = latestOf((await Promise.all(bake.watchesBefore.map((id) => reportsOf(deps, dataset, id)))).flat(), tag)
  const seen: Watched = { now: [], before: before.map((report) => countsOf(report, policy.slowMs)), drift: null }
  let driftAt = 0
  for (let looked = 0; ; ) {
    const sinceFlip = performance.now() - startedAt
    if (await isLeft(deps, store, request, looking)) return null
    const look = lookDue({ elapsedMs: sinceFlip, forMs })
    if (look > looked) {
      looked = look
      const isDue = performance.now() >= driftAt || look === LOOKS
      if (isDue && policy.drift.sample > 0) {
        seen.drift = await driftOf(deps, store, { dataset, tag, sample: policy.drift.sample, signal })
        driftAt = performance.now() + policy.drift.everyMs
      }
      const reports = await reportsOf(deps, dataset, flipId)
      seen.now = reports.filter((report) => report.tag === tag).map((report) => countsOf(report, policy.slowMs))
      const judged = judgeBake(seen, policy, look)
      tell(`look ${look} of ${LOOKS}: ${judged.summary}`)
      if (judged.beyond.length > 0 || look === LOOKS) return judged
    }
    const untilNext = ((looked + 1) * forMs) / LOOKS - sinceFlip
    await sleep(Math.max(1, Math.min(POLL_MS, untilNext)), undefined, { signal })
  }
}

/**
 * Whether another flip came since. A pointer that does not say this one may have lost it, with its store: it is repaired first, and readers have left
 * nothing. A break-glass rollback that the registry has not absorbed yet is a person's word.
 */
async function isLeft(deps: Deps, store: Store, request: BakeRequest, looking: Looking): Promise<boolean> {
  const { dataset, flipId } = request
  if ((await store.pointer.read())?.pointer.flipId === flipId) return false
  await repair(deps, store, looking)
  const pointer = (await store.pointer.read())?.pointer ?? null
  if (pointer?.flipId === flipId) return false
  const flip = await flipOf(deps.pool, flipId)
  if (flip !== null && (await wasOvertaken(deps.pool, flip))) return true
  if (pointer?.breakGlass.some((entry) => entry.flipId === pointer.flipId)) return true
  const active = pointer?.active?.tag ?? 'no version'
  throw cannotGoOn(request, `the pointer of ${dataset} to be as that flip left it`, `${active}, by no later flip`)
}

/** Of each reader its last report of another version than this. */
function latestOf(reports: readonly CounterReport[], tag: string): CounterReport[] {
  const latest = new Map<string, CounterReport>()
  for (const report of reports.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at)))
    if (report.tag !== tag) latest.set(report.readerId, report)
  return [...latest.values()]
}

/** Null where no index could be compared: a source that does not answer says nothing of the version. */
async function driftOf(
  deps: Deps,
  store: Store,
  { dataset, tag, sample, signal }: { dataset: string; tag: string; sample: number; signal: AbortSignal },
): Promise<Watched['drift']> {
  const pointer = (await store.pointer.read())?.pointer ?? null
  if (pointer?.active?.tag !== tag) return null
  const manifest = await readManifest(store, dataset, pointer.active)
  const drift = { compared: 0, different: 0 }
  for (const [name, definition] of Object.entries(datasetOf(deps.config, dataset).indexes)) {
    if ('events' in definition || manifest.indexes[name] === undefined) continue
    // Nothing is compared in full, so nothing is put into a folder.
    const options = { manifest, name, definition, mode: 'sample', sample, folder: deps.workDir, signal } as const
    try {
      const { compared, differentCount } = await measureDrift(deps, store, options)
      drift.compared += compared
      drift.different += differentCount
    } catch (error) {
      signal.throwIfAborted()
      deps.log.warn({ err: error, dataset, version: tag, step: 'bake', index: name }, 'drift could not be measured')
    }
  }
  return drift.compared === 0 ? null : drift
}

async function fail(
  deps: Deps,
  store: Store,
  request: BakeRequest & { kind: FlipKind },
  judged: BakeJudgement,
): Promise<Baked> {
  const { dataset, flipId, tag, kind } = request
  const { summary: found, evidence } = judged
  const isRollback = kind === 'rollback'
  const next = isRollback ? `. ${await nextGood(deps, store, dataset, tag)}` : ''
  const summary = `${tag} of ${dataset} is beyond its limits in its bake: ${found}${next}`
  await deps.alert({
    kind: isRollback ? 'ROLLBACK_UNHEALTHY' : 'BAKE_FAILED',
    dataset,
    version: tag,
    incident: flipId,
    summary,
    evidence: { ...evidence, flipId },
  })
  await endBake(deps.pool, { flipId, outcome: 'failed', detail: { summary, ...evidence } })
  if (isRollback) return { outcome: 'unhealthy', summary }
  throw new SnapflipError('BAKE_FAILED', summary, { dataset, tag, flipId })
}
