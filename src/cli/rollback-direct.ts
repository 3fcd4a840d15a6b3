import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { breakGlass } from '../../activities/break-glass.ts'
import { takeBack } from '../../activities/flip-back.ts'
import { followAll, takeOverUnregistered } from '../../activities/follow.ts'
import { lookAfter } from '../../activities/look-after.ts'
import { isSnapflipError, type SnapflipError } from '../core/errors.ts'
import { formatEpoch } from '../core/pointer.ts'
import { authorize } from '../registry/authorize.ts'
import { changeDeps } from './change-deps.ts'
import type { Session } from './session.ts'
import type { Answer } from './verb.ts'

interface Request {
  dataset: string
  reason: string
  to?: string
}

interface Made {
  by: 'registry' | 'breakGlass'
  from: string
  to: string
  epoch: string
  actor: string
  rebound: boolean
  summary: string
}

/**
 * A rollback from this process: Temporal is not asked. With PostgreSQL as the workflow makes it; when PostgreSQL does not answer, in the store alone
 * (break-glass), and says so. Afterwards it looks at what readers have now.
 */
export async function rollbackDirect(session: Session, request: Request): Promise<Answer> {
  const flipId = randomUUID()
  const made = await byRegistry(session, request, flipId).catch(async (error: unknown) => {
    if (!isDown(error)) throw error
    session.note(`PostgreSQL does not answer: ${request.dataset} is taken back in the store alone (break-glass).`)
    return inStoreAlone(session, request, flipId)
  })
  const { config } = await session.loaded()
  const signal = new AbortController().signal
  const store = await session.store(request.dataset)
  const after = await lookAfter({ config, store }, request.dataset, made.to, { tell: () => undefined, signal })
  const json = { status: 'ROLLED_BACK', direct: true, dataset: request.dataset, ...made, ...after }
  const text = [made.summary, after.summary].join('\n')
  return { json, text, ...(after.isHealthy ? {} : { code: 'VERIFY_FAILED' as const }) }
}

async function byRegistry(session: Session, request: Request, flipId: string): Promise<Made> {
  const pool = await session.registry()
  const config = await session.config()
  const deps = { ...changeDeps(session, pool), config }
  const signal = new AbortController().signal
  const { actor } = await authorize(pool, { dataset: request.dataset, action: 'rollback', reason: request.reason })
  const asked = { flipId, request, actor: async () => actor }
  const { from, to, epoch, summary } = await takeBack(deps, asked, { tell: () => undefined, signal })
  await followAll(deps, { dataset: request.dataset, tell: () => undefined, signal })
  return { by: 'registry', from, to, epoch: formatEpoch(epoch), actor, rebound: false, summary: `${summary}.` }
}

async function inStoreAlone(session: Session, { dataset, reason, to }: Request, madeAs: string): Promise<Made> {
  const store = await session.store(dataset)
  const asked = {
    flipId: randomUUID(),
    madeAs,
    to: to ?? null,
    by: session.actor,
    reason,
    at: new Date().toISOString(),
  }
  const signal = new AbortController().signal
  const entry = await breakGlass(store, { ...asked, dataset, tell: () => undefined, signal })
  if (entry === null) {
    const { pointer } = (await store.pointer.read()) ?? {}
    const epoch = pointer === undefined ? 'unknown' : formatEpoch(pointer.epoch)
    const [now, before] = [pointer?.flips[0]?.tag ?? 'none', pointer?.flips[1]?.tag ?? 'none']
    const summary = `${dataset} is back at ${now}: the rollback was made before PostgreSQL went away; the registry reads that from the store.`
    return { by: 'registry', from: before, to: now, epoch, actor: session.actor, rebound: false, summary }
  }
  for (const further of await session.furtherStores(dataset)) {
    const isUp = await takeOverUnregistered(store, further, dataset).catch(() => false)
    if (!isUp)
      session.note(
        `${further.name} (${further.store.url}) could not take it over: its readers stay where they are until a refresh.`,
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
  return { by: 'breakGlass', from, to: entry.to, epoch: formatEpoch(epoch), actor: entry.by, rebound, summary }
}

/** It does not answer. One that answers with a refusal (a wrong password, no such database) is no reason to go round it. */
function isDown(error: unknown): boolean {
  if (!isSnapflipError(error, 'POSTGRES_UNREACHABLE')) return false
  const { cause } = error as SnapflipError
  return !(cause instanceof pg.DatabaseError && /^(28|3D)/.test(cause.code ?? ''))
}
