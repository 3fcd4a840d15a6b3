import type { DatasetDefinition } from '../schemas/config.ts'
import type { Pointer } from '../schemas/pointer.ts'
import { refreshRequestSchema, WORKFLOW_ID } from '../schemas/refresh.ts'
import type { BakePolicy, CanaryPolicy } from '../schemas/watch.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { NO_EPOCH } from '../src/core/pointer.ts'
import { PACKAGE_VERSION } from '../src/package-version.ts'
import { requireStore } from '../src/registry/apply-store.ts'
import { requireApplied } from '../src/registry/current-definition.ts'
import { openRefresh } from '../src/registry/open-refresh.ts'
import { type OpenRefresh, openRefreshOf } from '../src/registry/open-refresh-of.ts'
import { raiseEpoch } from '../src/registry/raise-epoch.ts'
import { recordEvent } from '../src/registry/record.ts'
import { absorbBreakGlass } from './absorb.ts'
import { endUnwatchedBake } from './bake-unwatched.ts'
import { type Deps, datasetOf } from './deps.ts'
import { endLeftCanary } from './end-canary.ts'
import { asActivity, notBeside } from './failure.ts'
import { followAll } from './follow.ts'
import type { FlipFrom } from './parent.ts'
import { parseRequest } from './parse-request.ts'
import { liftExpiredPin } from './pin.ts'
import { repair } from './reconcile.ts'
import { type Requester, requesterOf } from './requester.ts'
import { settleOpenFlips } from './settle-flips.ts'
import { type LeftBad, readLeftBack } from './verify.ts'
import { outsideWindow } from './window.ts'

export interface PlanRequest {
  refreshId: string
  /** As it came from whoever started the workflow: not parsed yet. */
  request: unknown
  workflowId: string
  runId: string
}

/** What the workflow has to do. A field that is absent means no step: histories from before it replay. */
export interface Plan {
  dataset: string
  from: FlipFrom
  summary: string
  /** Whether the workflow may write our search attributes. */
  searchable: boolean
  /** Only where they are declared; a first version has nothing to be compared with. */
  canary?: CanaryPolicy
  bake?: BakePolicy
  /** Where else the version is published, in this order; absent where one store is declared. */
  stores?: { names: string[]; onFailure: 'rollback' | 'degrade' }
  /** Before readers are moved it asks whether the window is open still, and stops where it is not. */
  stopsAtClose?: true
  /** Outside its window: opened to be closed again as SKIPPED. */
  skip?: string
  /** What ends without a flip retires what it makes needless too. */
  freesRoom?: true
  /** When a person has to say yes; left out where nobody is asked. */
  approval?: { when: 'onHold' | 'always'; beforeFlip: boolean }
}

/** Outside its window, and nothing is opened yet: to be asked again after so long. */
export interface PlanLater {
  waitMs: number
  summary: string
}

/** Opens the refresh: one a dataset. What an earlier one left undecided is settled first, and a store that lost something repaired. */
export const plan =
  (deps: Deps) =>
  (asked: PlanRequest): Promise<Plan | PlanLater | LeftBad> =>
    asActivity((tell, signal) => planRefresh(deps, asked, { tell, signal }))

async function planRefresh(
  deps: Deps,
  asked: PlanRequest,
  { tell, signal }: { tell: (progress: string) => void; signal: AbortSignal },
): Promise<Plan | PlanLater | LeftBad> {
  const request = parseRequest(refreshRequestSchema, asked.request, 'a refresh')
  const { dataset, reason, full, outsideWindow: anyTime } = request
  const definition = datasetOf(deps.config, dataset)
  // First of all: a ticket that is not used up by its run is good for another one.
  const requester = await requesterOf(deps, { ...asked, action: 'refresh', request })
  requireOwnId(dataset, asked.workflowId)
  const policy = await requireApplied(deps.pool, { dataset, definition })
  await requireApprovable(deps, dataset, definition, requester)
  const store = await deps.store(dataset)
  await requireStore(deps.pool, { dataset, url: store.url })
  const outside = anyTime ? null : outsideWindow(definition)
  if (outside !== null && outside.waitMs !== null) return { waitMs: outside.waitMs, summary: outside.summary }
  await settleOpenFlips(deps, store, dataset)
  const { refreshId, workflowId, runId } = asked
  // Before the refresh is opened: one that is refused, because of a hold say, leaves the store repaired, and no reader on a dead one's candidate.
  const repaired = await repair(deps, store, { dataset, tell, signal })
  const absorbed = await absorbBreakGlass(deps, store, dataset)
  // Temporal runs one workflow of an id at a time: this run, unless this is a late attempt of one that has ended itself.
  const hasDied = async (open: OpenRefresh) =>
    open.workflowId === workflowId && open.runId !== runId && (await deps.isRunning(workflowId, runId))
  const open = await openRefreshOf(deps.pool, dataset)
  if (open !== null && (await hasDied(open))) {
    const left = await readLeftBack(deps, open.refreshId, { dataset, tell, signal })
    if (left !== null) return left
  }
  await endUnwatchedBake(deps, dataset, hasDied)
  await liftExpiredPin(deps, store, dataset)
  await endLeftCanary(deps, store, { dataset, tell, signal }, hasDied)
  // Nothing is copied here: that would keep readers of the first store waiting for fresh data.
  await followAll(deps, { dataset, tell, signal })
  await notBeside(() =>
    openRefresh(deps.pool, {
      ...{ refreshId, dataset, workflowId, runId, reason: reason ?? null, full: full ?? false },
      ...{ outsideWindow: anyTime ?? false, requestedBy: requester.actor, requestedVia: requester.via },
      ...{ policy, snapflip: PACKAGE_VERSION },
    }),
  )
  const pointer = (await store.pointer.read())?.pointer ?? null
  const from = { tag: pointer?.active?.tag ?? null, epoch: pointer?.epoch ?? NO_EPOCH }
  await raiseEpoch(deps.pool, dataset, from.epoch.registry)
  deps.log.info({ dataset, step: 'plan', refreshId: asked.refreshId, from: from.tag }, 'refresh opened')
  const summary = [repaired?.summary, absorbed, beginning(pointer)].filter((part) => part != null).join('; ')
  const { canary, bake } = definition
  const approval = approvalFor(definition, requester)
  const watches = { ...(canary && from.tag !== null && { canary }), ...(bake && { bake }) }
  return {
    dataset,
    from,
    summary,
    searchable: deps.searchable,
    freesRoom: true,
    ...watches,
    ...(approval === null ? {} : { approval }),
    ...publishedTo(definition),
    ...(anyTime || definition.windows?.onClose !== 'keepCandidate' ? {} : { stopsAtClose: true }),
    ...(outside === null ? {} : { skip: outside.summary }),
  }
}

function publishedTo({ stores: [, ...names], publish }: DatasetDefinition): Pick<Plan, 'stores'> {
  return names.length === 0 ? {} : { stores: { names, onFailure: publish?.onFailure ?? 'degrade' } }
}

/**
 * Of what an unverified identity asks for nobody can say that whoever approves it is another: where every version needs an approval it is
 * refused before anything is built.
 *
 * @throws SnapflipError FORBIDDEN
 */
async function requireApprovable(
  deps: Deps,
  dataset: string,
  { approval }: DatasetDefinition,
  { actor, via }: Requester,
): Promise<void> {
  if (approval?.when !== 'always' || via !== 'temporal') return
  const detail = { action: 'refresh', why: 'unverified' }
  await recordEvent(deps.pool, { dataset, actor, kind: 'action.refused', detail })
  throw new SnapflipError(
    'FORBIDDEN',
    `Expected a refresh of ${dataset}, whose versions need an approval, to be asked for by a login or a schedule, found ${actor}, which may be anybody: ` +
      `nobody could tell whether whoever approves is another. Start it with \`snapflip refresh ${dataset}\`.`,
    { dataset, actor },
  )
}

/** Null: nobody is asked. For the same reason not about what a gate holds, where only that is asked about: it ends held. */
function approvalFor({ approval }: DatasetDefinition, { via }: Requester): NonNullable<Plan['approval']> | null {
  if (approval === undefined || approval.when === 'never' || via === 'temporal') return null
  return { when: approval.when, beforeFlip: approval.beforeFlip }
}

function beginning(pointer: Pointer | null): string {
  const active = pointer?.active ?? null
  if (active === null) return 'building from the source: the store has no version'
  if (pointer?.quarantined.includes(active.tag)) return `building from the source: ${active.tag} is quarantined`
  return `building on ${active.tag}`
}

/** The id is what makes Temporal run one refresh a dataset; the registry's row holds it even so. */
function requireOwnId(dataset: string, workflowId: string): void {
  const expected = WORKFLOW_ID.refresh(dataset)
  if (workflowId === expected) return
  throw new SnapflipError(
    'USAGE',
    `A refresh of ${dataset} has the workflow id ${expected}, found ${workflowId}. Start it again with that id.`,
    { dataset, expected, workflowId },
  )
}
