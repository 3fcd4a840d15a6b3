import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { breakGlass } from '../../activities/break-glass.ts'
import { takeBack } from '../../activities/flip-back.ts'
import { followAll, takeOverUnregistered } from '../../activities/follow.ts'
import { type LookedAfter, lookAfter } from '../../activities/look-after.ts'
import type { Config } from '../../schemas/config.ts'
import { type BakeRequest, type RollbackRequest, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { isSnapflipError, type SnapflipError } from '../core/errors.ts'
import { formatEpoch } from '../core/pointer.ts'
import { authorize } from '../registry/authorize.ts'
import { connectRegistry } from '../registry/connect.ts'
import { requireMigrated } from '../registry/migrate.ts'
import { changeDeps } from './change-deps.ts'
import type { Session } from './session.ts'
import { startWorkflow } from './start-workflow.ts'
import type { Answer } from './verb.ts'

type Request = Omit<RollbackRequest, 'ticket'>

interface Made {
  by: 'registry' | 'breakGlass'
  from: string
  to: string
  epoch: string
  actor: string
  rebound: boolean
  /** Whether what readers are on now is to be watched; absent where the registry could not say. */
  bakes?: boolean
  /** Of break-glass: the further stores whose readers stay where they are. */
  behind?: Array<{ store: string; url: string; why: string }>
  summary: string
}

type Looking = Parameters<typeof lookAfter>[3]

/** Of PostgreSQL, to each statement: one that takes connections and then hangs keeps nobody from break-glass. A healthy one takes milliseconds. */
const ANSWER_MS = 10_000
/** Between two lines of progress. */
const PROGRESS_MS = 3_000

/**
 * A rollback from this process: Temporal is asked for nothing but to watch afterwards. With PostgreSQL as the workflow makes it; when PostgreSQL does
 * not answer, in the store alone (break-glass), and says so. Afterwards it looks at what readers have now; whatever becomes of that, it says what was made.
 */
export async function rollbackDirect(session: Session, request: Request): Promise<Answer> {
  const { dataset } = request
  const askedAt = new Date().toISOString()
  const flipId = randomUUID()
  const looking = { tell: nowAndThen(session), signal: new AbortController().signal }
  const { bakes, ...made } = await byRegistry(session, request, { flipId, askedAt }, looking).catch(
    async (error: unknown) => {
      if (!isDown(error)) throw error
      session.note(`PostgreSQL does not answer: ${dataset} is taken back in the store alone (break-glass).`)
      return inStoreAlone(session, request, flipId, looking)
    },
  )
  session.note(
    `${dataset} is back from ${made.from} at ${made.to} (epoch ${made.epoch}); looking at what readers have now.`,
  )
  const watch = await watched(session, { dataset, tag: made.to, flipId: made.by === 'registry' ? flipId : null, bakes })
  const after = await afterwards(session, dataset, made.to, looking)
  const json = {
    status: 'ROLLED_BACK',
    direct: true,
    dataset,
    ...made,
    ...(watch && { watched: watch.watched }),
    ...after,
  }
  const text = [made.summary, watch?.note ?? [], after.summary].flat().join('\n')
  return { json, text, ...(after.isHealthy === false ? { code: 'VERIFY_FAILED' as const } : {}) }
}

/**
 * Starts the bake of what readers are on now, where one is declared: a workflow's, so where Temporal is down nobody keeps that watch, and this says so.
 *
 * @param flipId null: the registry does not know of it yet. Once it does, a worker starts that watch.
 * @param bakes undefined: as far as the file says.
 */
async function watched(
  session: Session,
  { dataset, tag, flipId, bakes }: { dataset: string; tag: string; flipId: string | null; bakes: boolean | undefined },
): Promise<{ watched: boolean; note: string } | undefined> {
  const isDeclared = bakes ?? (await session.dataset(dataset)).bake !== undefined
  if (!isDeclared) return undefined
  if (flipId === null)
    return {
      watched: false,
      note:
        `${tag} should bake, and nobody watches it yet: a worker does, for what is left of the time, when PostgreSQL is back. ` +
        `Until then look at its readers yourself.`,
    }
  const bake: BakeRequest = { dataset, flipId, tag }
  try {
    await startWorkflow(session, 'bake', WORKFLOW_ID.bake(dataset, flipId), bake, {
      code: 'CONFLICT',
      message: `The bake of ${tag} runs already.`,
    })
    return { watched: true, note: `${tag} bakes: \`snapflip status ${dataset}\`.` }
  } catch (error) {
    return { watched: false, note: `${tag} should bake, and nobody watches it: ${messageOf(error)}` }
  }
}

async function afterwards(
  session: Session,
  dataset: string,
  tag: string,
  looking: Looking,
): Promise<LookedAfter | { isHealthy: null; summary: string }> {
  try {
    return await lookAfter(
      { config: await session.config(), store: await session.store(dataset) },
      dataset,
      tag,
      looking,
    )
  } catch (error) {
    return {
      isHealthy: null,
      summary:
        `That was made; what readers have could not be looked at: ${messageOf(error)} ` +
        `See \`snapflip status ${dataset}\` and \`snapflip verify ${dataset}\`.`,
    }
  }
}

async function byRegistry(
  session: Session,
  request: Request,
  { flipId, askedAt }: { flipId: string; askedAt: string },
  looking: Looking,
): Promise<Made> {
  const { dataset } = request
  const config = await session.config()
  const pool = await boundRegistry(session, config.database)
  const deps = { ...changeDeps(session, pool), config }
  const { actor } = await authorize(pool, { dataset, action: 'rollback', reason: request.reason })
  const asked = { flipId, request, askedAt, actor: async () => actor }
  const { from, to, epoch, summary, bake } = await takeBack(deps, asked, looking)
  await followAll(deps, { dataset, ...looking }).catch((error: unknown) => {
    session.note(`The further stores of ${dataset} follow with the next refresh or rollback: ${messageOf(error)}`)
  })
  const bakes = bake !== undefined
  return { by: 'registry', from, to, epoch: formatEpoch(epoch), actor, rebound: false, bakes, summary: `${summary}.` }
}

/** The registry, each of whose statements fails after a while instead of being waited for. */
async function boundRegistry(session: Session, database: Config['database']): Promise<pg.Pool> {
  const given = typeof database === 'string' ? { connectionString: database } : database
  const pool = await connectRegistry({ query_timeout: ANSWER_MS, ...given })
  session.onClose(() => pool.end())
  await requireMigrated(pool)
  return pool
}

async function inStoreAlone(
  session: Session,
  { dataset, reason, from: leaves, to }: Request,
  madeAs: string,
  looking: Looking,
): Promise<Made> {
  const store = await session.store(dataset)
  const asked = {
    flipId: randomUUID(),
    madeAs,
    ...(leaves !== undefined && { from: leaves }),
    to: to ?? null,
    by: session.actor,
    reason,
    at: new Date().toISOString(),
  }
  const entry = await breakGlass(store, { ...asked, dataset, ...looking })
  if (entry === null) {
    const { pointer } = (await store.pointer.read()) ?? {}
    const epoch = pointer === undefined ? 'unknown' : formatEpoch(pointer.epoch)
    const [now, before] = [pointer?.flips[0]?.tag ?? 'none', pointer?.flips[1]?.tag ?? 'none']
    const summary = `${dataset} is back at ${now}: the rollback was made before PostgreSQL went away; the registry reads that from the store.`
    return { by: 'registry', from: before, to: now, epoch, actor: session.actor, rebound: false, summary }
  }
  const behind: Made['behind'] = []
  for (const further of await session.furtherStores(dataset)) {
    const why = await takeOverUnregistered(store, further, dataset).then(
      (isUp) => (isUp ? null : `it has not ${entry.to}, or nothing was published to it yet.`),
      messageOf,
    )
    if (why === null) continue
    const { url } = further.store
    behind.push({ store: further.name, url, why })
    session.note(
      `${further.name} (${url}) did not take it over; its readers stay where they are until a refresh: ${why}`,
    )
  }
  const { from, epoch, rebound } = entry
  const bound = rebound
    ? ` ${store.url} restarted or failed over since it was written to; the pointer is bound to the server that answers now, and what was acknowledged before may be undone.`
    : ''
  const summary =
    `${dataset} is back from ${from} at ${entry.to} (epoch ${formatEpoch(epoch)}), in the store alone: PostgreSQL does not answer.${bound}\n` +
    `${from} is quarantined and ${dataset} is on hold, by ${entry.by}: unverified, since PostgreSQL could not be asked who that is. ` +
    'Hold, quarantine and history entry are in the pointer; the registry takes them over before its next flip.'
  return { by: 'breakGlass', from, to: entry.to, epoch: formatEpoch(epoch), actor: entry.by, rebound, behind, summary }
}

/** What a statement ends with that waited for others until PostgreSQL itself gave up: lock_not_available, and a statement_timeout of the role. */
const LATE = ['55P03', '57014']

/** It does not answer, or not in time. One that answers with a refusal (a wrong password, no such database) is no reason to go round it. */
function isDown(error: unknown): boolean {
  if (isSnapflipError(error, 'POSTGRES_FAILED')) return LATE.includes(String(error.details.sqlstate))
  if (!isSnapflipError(error, 'POSTGRES_UNREACHABLE')) return false
  const { cause } = error as SnapflipError
  return !(cause instanceof pg.DatabaseError && /^(28|3D)/.test(cause.code ?? ''))
}

/** Progress for whoever waits at the prompt. */
function nowAndThen(session: Session): (progress: string) => void {
  let last = performance.now()
  return (progress) => {
    if (performance.now() - last < PROGRESS_MS) return
    last = performance.now()
    session.note(progress)
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))
