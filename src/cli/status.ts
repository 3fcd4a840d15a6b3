import type { Command } from 'commander'
import type { Pointer } from '../../schemas/pointer.ts'
import { type RefreshProgress, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { isSnapflipError, type SnapflipError } from '../core/errors.ts'
import { expiredByMs } from '../core/expiry.ts'
import { formatEpoch } from '../core/pointer.ts'
import { knownPointer } from '../registry/known-pointer.ts'
import { type DatasetStatus, status as statusOf } from '../registry/status.ts'
import { waitingText } from './approval-text.ts'
import { disagreement } from './disagreement.ts'
import { workersPolling } from './follow.ts'
import { type FurtherStanding, furtherStandings, standingText } from './further-standing.ts'
import type { Session } from './session.ts'
import { card, formatTime, table } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'
import { type Watched, watchesOf, watchText } from './watches.ts'

const QUERY_TIMEOUT_MS = 2_000

export function status(program: Command): void {
  verb(program, {
    usage: 'status [dataset]',
    summary: 'which version readers are on, holds, running refreshes; of one dataset or all',
    examples: [
      ['snapflip status', 'all datasets'],
      ['snapflip status shop', 'one, in detail'],
    ],
  }).action(act<CommonOptions, [string | undefined]>(run))
}

/** What could be asked, or why not: one part that is down does not hide the others. */
type Asked<T> = { value: T; error: null } | { value: null; error: SnapflipError }

interface Standing {
  dataset: string
  pointer: Asked<Pointer | null>
  registry: Asked<DatasetStatus>
  /** Between the two. */
  differs: SnapflipError | null
  progress: RefreshProgress | null
  /** Where it is published beside the first store. */
  stores: FurtherStanding[]
  watched: Watched[]
}

async function run(session: Session, _options: CommonOptions, dataset: string | undefined): Promise<Answer> {
  if (dataset !== undefined) await session.dataset(dataset)
  const config = await session.config()
  const names = dataset === undefined ? Object.keys(config.datasets) : [dataset]
  const [registry, temporal] = await Promise.all([
    asked(async () => statusOf(await session.registry(), names)),
    asked(async () => {
      const client = await session.temporal()
      return { client, workers: await workersPolling(client, config.temporal.taskQueue) }
    }),
  ])
  const standings = await Promise.all(
    names.map(async (name, at): Promise<Standing> => {
      const known = registry.error === null ? registry.value[at] : undefined
      // Before the store's: see `disagreement`. Null also where the registry cannot say.
      const confirmed = await asked(async () => knownPointer(await session.registry(), name))
      const pointer = await asked(async () => (await (await session.store(name)).pointer.read())?.pointer ?? null)
      const { url } = await session.store(name).catch(() => ({ url: '' }))
      const watched = await asked(async () =>
        watchesOf(await session.store(name), pointer.value, known?.canary ?? null, known?.lastFlip ?? null),
      )
      return {
        dataset: name,
        pointer,
        differs:
          pointer.error !== null || confirmed.error !== null || (known?.openFlips ?? []).length > 0
            ? null
            : disagreement({ dataset: name, store: url }, pointer.value, confirmed.value),
        registry:
          known === undefined ? { value: null, error: registry.error as SnapflipError } : { value: known, error: null },
        progress: known?.openRefresh == null ? null : await progressOf(temporal.value?.client ?? null, name),
        stores: await furtherStandings(session, name, { registryAnswers: known?.applied === true }),
        watched: watched.value ?? [],
      }
    }),
  )
  const failures = [
    registry.error,
    temporal.error,
    ...standings.flatMap(({ pointer, differs }) => [pointer.error, differs]),
  ].filter((error) => error !== null)
  const workers = temporal.value?.workers ?? null
  const troubles = [...new Set(failures.map(({ code, message }) => `${code}: ${message}`))]
  if (workers === 0)
    troubles.push(`No worker polls task queue ${config.temporal.taskQueue}: start one with \`snapflip worker\`.`)
  const [first] = failures
  return {
    json: {
      datasets: standings.map(toJson),
      workers,
      errors: failures.map(({ code, message, details }) => ({ code, message, details })),
    },
    text: [
      dataset === undefined || standings[0] === undefined ? overview(standings) : detail(standings[0]),
      ...troubles,
    ].join('\n'),
    ...(first === undefined ? {} : { code: first.code }),
  }
}

async function asked<T>(ask: () => Promise<T>): Promise<Asked<T>> {
  try {
    return { value: await ask(), error: null }
  } catch (error) {
    if (!isSnapflipError(error)) throw error
    return { value: null, error }
  }
}

async function progressOf(
  client: import('@temporalio/client').Client | null,
  dataset: string,
): Promise<RefreshProgress | null> {
  if (client === null) return null
  return client
    .withDeadline(Date.now() + QUERY_TIMEOUT_MS, () =>
      client.workflow.getHandle(WORKFLOW_ID.refresh(dataset)).query<RefreshProgress>('progress'),
    )
    .catch(() => null)
}

function toJson({ dataset, pointer, registry, progress, watched, stores }: Standing) {
  return { dataset, pointer: pointer.value, registry: registry.value, progress, watched, stores }
}

function overview(standings: readonly Standing[]): string {
  if (standings.length === 0) return 'The definition has no datasets yet.'
  return table(
    ['dataset', 'active', 'fresh as of', 'epoch', 'refresh', 'hold', 'behind'],
    standings.map((standing) => [
      standing.dataset,
      activeOf(standing),
      freshOf(standing),
      standing.pointer.value === null ? null : formatEpoch(standing.pointer.value.epoch),
      refreshOf(standing),
      holdOf(standing),
      behind(standing),
    ]),
  )
}

function activeOf({ pointer, differs }: Standing): string {
  if (pointer.error !== null) return `? (${pointer.error.code})`
  const active = pointer.value?.active?.tag
  return differs === null ? (active ?? 'none yet') : `${active ?? 'none'} (${differs.code})`
}

function freshOf({ pointer }: Standing): string | null {
  const at = formatTime(pointer.value?.freshAsOf?.at ?? null)
  if (pointer.value == null || expiredByMs(pointer.value, new Date()) === null) return at
  return `${at}, EXPIRED (budget ${pointer.value.ttl?.budgetMs} ms)`
}

function refreshOf({ registry, progress }: Standing): string | null {
  if (registry.error !== null) return `? (${registry.error.code})`
  const { applied, openRefresh, lastRefresh } = registry.value
  if (!applied) return 'not applied yet'
  if (openRefresh !== null) return `${progress?.step ?? 'open'} since ${formatTime(openRefresh.openedAt)}`
  return lastRefresh === null ? null : `${lastRefresh.status} ${formatTime(lastRefresh.closedAt)}`
}

/** Names of the stores that readers should not be on. */
function behind({ stores }: Standing): string | null {
  const names = stores.filter(({ state, error }) => state === 'degraded' || error !== null).map(({ name }) => name)
  return names.join(', ') || null
}

/** The store's word counts for flips; the registry's for starting refreshes. */
function holdOf({ pointer, registry }: Standing): string | null {
  const hold = pointer.value?.hold ?? registry.value?.hold ?? null
  return hold === null ? null : `${hold.by}: ${hold.reason}`
}

/** What is there only now and then. */
function restOf({ pointer, registry }: Standing): Array<readonly [string, string]> {
  const rest: Array<readonly [string, string]> = []
  const { pin, breakGlass = [] } = pointer.value ?? {}
  const drill = registry.value?.openDrill ?? null
  if (pin != null)
    rest.push(['pinned', `${pin.version.tag} until ${formatTime(pin.until)} by ${pin.by}: ${pin.reason}`])
  for (const { from, to, by, at, reason } of breakGlass)
    rest.push(['break-glass', `${from} → ${to} by ${by} at ${formatTime(at)}: ${reason}; not in the registry yet`])
  if (drill !== null) {
    const { from, to, by, begunAt, dataset } = drill
    const ends = `\`snapflip drill ${dataset} --end\` brings readers back`
    rest.push(['drill', `${from} → ${to} and back, by ${by} since ${formatTime(begunAt)}; ${ends}`])
  }
  return rest
}

function detail(standing: Standing): string {
  const { pointer, registry, progress } = standing
  const counts = Object.entries(registry.value?.versions ?? {}).map(([state, count]) => `${count} ${state}`)
  const open = registry.value?.openRefresh ?? null
  const last = registry.value?.lastRefresh ?? null
  const unsettled = registry.value?.openFlips ?? []
  const hold = pointer.value?.hold ?? registry.value?.hold ?? null
  return card([
    ['dataset', standing.dataset],
    ['active', activeOf(standing)],
    ['previous', pointer.value?.previous?.tag ?? null],
    ['fresh as of', freshOf(standing)],
    ['epoch', pointer.value === null ? null : formatEpoch(pointer.value.epoch)],
    ...standing.watched.map((watch) => [watch.kind, watchText(watch)] as const),
    [
      'hold',
      hold === null
        ? null
        : `by ${hold.by} since ${formatTime(hold.at)}: ${hold.reason}; \`snapflip resume ${standing.dataset} --reason …\` lifts it`,
    ],
    ['quarantined', pointer.value?.quarantined.join(', ') || null],
    ...standing.stores.map((further) => [`store ${further.name}`, standingText(further)] as const),
    ['versions', counts.join(', ') || null],
    [
      'refresh',
      open === null ? refreshOf(standing) : `${refreshOf(standing)}${progress === null ? '' : `: ${progress.summary}`}`,
    ],
    ...(registry.value?.waitsFor == null ? [] : [['approval', waitingText(registry.value.waitsFor)] as const]),
    ...(last === null || last.summary === null ? [] : [['last refresh', `${last.status}: ${last.summary}`] as const]),
    ...restOf(standing),
    ...unsettled.map((flip) => ['unsettled flip', `${flip.kind} to ${flip.to}, epoch ${flip.epoch}`] as const),
  ])
}
