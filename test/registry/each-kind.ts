import { randomUUID } from 'node:crypto'
import type { Pin } from '../../schemas/pointer.ts'
import type { DecidedState, HISTORY_KINDS } from '../../src/core/history-kinds.ts'
import { applyChange, emptyPointer } from '../../src/core/pointer.ts'
import { absorb } from '../../src/registry/absorb.ts'
import { acceptAnchor } from '../../src/registry/accept-anchor.ts'
import { adoptStore } from '../../src/registry/adopt-store.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { applyFurtherStores } from '../../src/registry/apply-further-stores.ts'
import { applyStore } from '../../src/registry/apply-store.ts'
import { askApproval, endApproval } from '../../src/registry/approvals.ts'
import { beginGeneration } from '../../src/registry/begin-generation.ts'
import { forgetCopies, recordCopy } from '../../src/registry/copies.ts'
import { decideApproval } from '../../src/registry/decide-approval.ts'
import { detachDataset } from '../../src/registry/detach-dataset.ts'
import { beginDrill, endDrill } from '../../src/registry/drills.ts'
import { endBake } from '../../src/registry/end-bake.ts'
import { endCanary } from '../../src/registry/end-canary.ts'
import type { BakeOutcome, FlipKind, FlipResult } from '../../src/registry/flips.ts'
import { recordDegraded, recordFollowed } from '../../src/registry/further-store-state.ts'
import { hold } from '../../src/registry/hold.ts'
import { intendCanary } from '../../src/registry/intend-canary.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { judgeCanary } from '../../src/registry/judge-canary.ts'
import { takeKept } from '../../src/registry/kept-candidate.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import { liftPin, putPin } from '../../src/registry/pins.ts'
import { quarantine } from '../../src/registry/quarantine.ts'
import { raiseAlert } from '../../src/registry/raise-alert.ts'
import { raiseEpoch } from '../../src/registry/raise-epoch.ts'
import { rampCanary } from '../../src/registry/ramp-canary.ts'
import { recordEvent } from '../../src/registry/record.ts'
import { release } from '../../src/registry/release.ts'
import { restoreVersion } from '../../src/registry/restore-version.ts'
import { resume } from '../../src/registry/resume.ts'
import { retire, swept } from '../../src/registry/retire.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { followState, setVersionState } from '../../src/registry/set-version-state.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { sweptGeneration } from '../../src/registry/swept-generation.ts'
import { type Db, transaction } from '../../src/registry/transaction.ts'
import { version } from '../../src/registry/version.ts'
import { waive } from '../../src/registry/waive.ts'
import {
  allocate,
  aRefresh,
  attempt,
  close,
  DATASET,
  DAY,
  definition,
  flipped,
  gate,
  generation,
  judge,
  judged,
  open,
  passed,
  seal,
} from './shop.ts'

/** Prepares what must be there before; the verb that it returns writes the entry. */
type Prepare = (db: Db) => Promise<(db: Db) => Promise<unknown>>

const WHO = { dataset: DATASET, by: 'ana', reason: 'test' } as const
const COLD = { dataset: DATASET, name: 'cold', url: 's3://cold/x' } as const

const asked =
  (verb: (db: Db, of: { refreshId: string; tag: string }) => Promise<unknown>): Prepare =>
  async (db) => {
    const of = await sealedFor(db, 'ana')
    await ask(db, of)
    return (at) => verb(at, of)
  }

function sealedFor(db: Db, requestedBy: string): Promise<{ refreshId: string; tag: string }> {
  return judged(db, { refresh: { ...aRefresh(), requestedBy, requestedVia: 'login' }, results: [gate('pass')] })
}

async function ask(db: Db, { refreshId, tag }: { refreshId: string; tag: string }): Promise<void> {
  const manifestSha256 = await manifestOf(db, tag)
  await askApproval(db, { refreshId, tag, manifestSha256, why: 'look', validForMs: 60_000 })
}

const manifestOf = async (db: Db, tag: string) => (await version(db, DATASET, tag)).manifestSha256 ?? ''

const decided = (decision: 'approved' | 'rejected') =>
  asked(async (db, { tag }) => {
    const { digest, manifestSha256 } = await version(db, DATASET, tag)
    if (digest === null || manifestSha256 === null) throw new Error('expected a sealed version')
    // Once decided it is refused, which has an entry of its own.
    const open = await db.query('select from snapflip.approval_requests where decision is null')
    if (open.rowCount === 1)
      await decideApproval(db, { dataset: DATASET, tag, decision, reason: 'test', digest, manifestSha256 })
  })

const canary =
  (verb: (db: Db, canaryId: string) => Promise<unknown>, begins = true): Prepare =>
  async (db) => {
    const { refreshId, tag } = await passed(db, await flipped(db, null))
    const canaryId = randomUUID()
    const manifestSha256 = await manifestOf(db, tag)
    const intent = { canaryId, dataset: DATASET, refreshId, tag, share: 0.1, salt: 's', forMs: 60_000, manifestSha256 }
    if (!begins) return (at) => intendCanary(at, intent)
    await intendCanary(db, intent)
    return (at) => verb(at, canaryId)
  }

/** Forward to a new version, or from the second to the first. */
const move =
  (kind: FlipKind, outcome: FlipResult | null, then?: BakeOutcome): Prepare =>
  async (db) => {
    const first = await flipped(db, null)
    const { tag, refreshId } = kind === 'flip' ? await passed(db, first) : { tag: first, refreshId: undefined }
    const from = kind === 'flip' ? first : await flipped(db, first)
    const flipId = randomUUID()
    const intent = { flipId, dataset: DATASET, kind, from, to: tag, reason: 'test', actor: 'ana', bakeMs: 60_000 }
    const intend = (at: Db) => intendFlip(at, { ...intent, ...(refreshId === undefined ? {} : { refreshId }) })
    if (outcome === null) return intend
    await intend(db)
    const settle = (at: Db) => settleFlip(at, { flipId, outcome, detail: {} })
    if (then === undefined) return settle
    await settle(db)
    return (at) => endBake(at, { flipId, outcome: then, detail: { summary: 'test' } })
  }

/** As a store says that has seen more than the registry. */
const followed =
  (to: DecidedState): Prepare =>
  async (db) => {
    const { tag } = await passed(db)
    return (at) =>
      transaction(at, async (client) => {
        const { state: from } = await version(client, DATASET, tag)
        await followState(client, { dataset: DATASET, tag, from, to, why: 'test' })
      })
  }

const event =
  (entry: Omit<Parameters<typeof recordEvent>[1], 'dataset' | 'actor'>): Prepare =>
  async () =>
  (db) =>
    recordEvent(db, { dataset: DATASET, actor: 'ana', ...entry })

/** What writes an entry of each kind. A kind that is added needs its line here. */
export const EACH_KIND: Record<keyof typeof HISTORY_KINDS, Prepare> = {
  'definition.applied': async () => (db) =>
    applyDefinition(db, { dataset: DATASET, definition: definition('public.x') }),
  'capture.attached': event({ kind: 'capture.attached', detail: { tables: ['public.x'] } }),
  'capture.removed': event({ kind: 'capture.removed', detail: { tables: ['public.x'] } }),
  'capture.detached': async () => (db) => detachDataset(db, { ...WHO, tables: ['public.x'], kept: [] }),
  'store.applied': async () => (db) => applyStore(db, { ...WHO, url: 'file:x', holds: async () => true }),
  'stores.applied': async () => (db) => applyFurtherStores(db, { ...WHO, stores: [COLD] }),
  'action.refused': async (db) => {
    const { rows } = await db.query<{ me: string }>('select session_user as me')
    const roles = { operator: [], approver: [], viewer: [], admin: [rows[0]?.me ?? ''] }
    await applyDefinition(db, { dataset: DATASET, definition: { ...definition(), roles } })
    // Asked as authorizeAs does, which takes no transaction.
    return (at) => at.query(`select snapflip.authorize_as($1, 'hold', 'eve', null, '{}')`, [DATASET])
  },
  'refresh.opened': async () => {
    const refresh = aRefresh()
    return (db) => openRefresh(db, refresh)
  },
  'refresh.skipped': event({ kind: 'refresh.skipped', detail: { reason: 'x', workflowId: 'x', refreshId: null } }),
  'refresh.cancelled': event({ kind: 'refresh.cancelled', detail: { refreshId: null, reason: 'x' } }),
  'refresh.closed': async (db) => {
    const refreshId = await open(db)
    await allocate(db, refreshId)
    return (at) => close(at, refreshId)
  },
  'version.allocated': async (db) => {
    const refreshId = await open(db)
    return (at) => allocate(at, refreshId)
  },
  'build.begun': async (db) => {
    const build = attempt(await open(db))
    return (at) => beginGeneration(at, build)
  },
  'build.swept': async (db) => {
    const [refreshId, mine] = [await open(db), generation()]
    await beginGeneration(db, attempt(refreshId, { generation: mine }))
    await close(db, refreshId)
    return (at) => sweptGeneration(at, { dataset: DATASET, generation: mine, store: 'hot' })
  },
  'version.sealed': async (db) => {
    const { tag } = await allocate(db, await open(db))
    const mine = seal(tag)
    return (at) => sealVersion(at, mine)
  },
  'version.reopened': async (db) => {
    const { refreshId: before, tag } = await sealedFor(db, 'ana')
    await close(db, before, 'KEPT', tag)
    const refreshId = await open(db)
    return (at) => takeKept(at, { dataset: DATASET, tag, refreshId })
  },
  'version.held': async (db) => {
    const { tag } = await passed(db)
    return (at) => setVersionState(at, { dataset: DATASET, tag, to: 'held', why: 'test' })
  },
  'version.rejected': async (db) => {
    const { tag } = await passed(db)
    return (at) => setVersionState(at, { dataset: DATASET, tag, to: 'rejected', why: 'test' })
  },
  'version.active': followed('active'),
  'version.retained': followed('retained'),
  'version.quarantined': followed('quarantined'),
  'version.retired': async (db) => {
    const v1 = await flipped(db, null)
    await flipped(db, await flipped(db, v1))
    return (at) => retire(at, { dataset: DATASET, tag: v1, why: 'old' })
  },
  'version.swept': async (db) => {
    const v1 = await flipped(db, null)
    await flipped(db, await flipped(db, v1))
    await retire(db, { dataset: DATASET, tag: v1, why: 'old' })
    return (at) => swept(at, { dataset: DATASET, tag: v1 })
  },
  'version.adopted': async () => {
    const ref = { tag: 'v20260518-01', ordinal: 1, digest: '1'.repeat(64), manifest: '2'.repeat(64) }
    const found = [{ tag: ref.tag, ref, manifest: null }]
    const store = { url: 'hot', pointer: emptyPointer(DATASET), tags: [ref.tag], found }
    return (db) => adoptStore(db, { dataset: DATASET, store })
  },
  'version.copied': async (db) => copied(db, await passed(db)),
  'version.restored': async (db) => {
    const { tag } = await passed(db)
    const { digest } = await version(db, DATASET, tag)
    const again = { manifest: generation() + generation(), generation: generation(), url: 'hot', from: COLD.url }
    return (at) => restoreVersion(at, { dataset: DATASET, tag, digest: digest ?? '', ...again })
  },
  'copy.gone': async (db) => {
    const { refreshId, tag } = await passed(db)
    await (await copied(db, { refreshId, tag }))(db)
    return (at) => forgetCopies(at, { dataset: DATASET, url: COLD.url, tags: [tag], why: 'test' })
  },
  'gates.judged': async (db) => {
    const { refreshId, tag } = await passed(db)
    return (at) => judge(at, refreshId, tag, [gate('warn')])
  },
  'gate.waived': async (db) => {
    const { refreshId, tag } = await passed(db)
    await judge(db, refreshId, tag, [gate('reject', 'drift')])
    const until = new Date(Date.now() + 60_000)
    return (at) => waive(at, { dataset: DATASET, tag, gate: 'drift', until, reason: 'test' })
  },
  'approval.requested': async (db) => {
    const of = await sealedFor(db, 'ana')
    return (at) => ask(at, of)
  },
  'approval.carried': async (db) => {
    const of = await sealedFor(db, 'ana')
    await ask(db, of)
    const { digest, manifestSha256 } = (await version(db, DATASET, of.tag)) as {
      digest: string
      manifestSha256: string
    }
    const yes = { decision: 'approved', reason: 'test', digest, manifestSha256 } as const
    await decideApproval(db, { dataset: DATASET, tag: of.tag, ...yes })
    await close(db, of.refreshId, 'KEPT', of.tag)
    const next = { ...aRefresh(), requestedBy: 'bo', requestedVia: 'login' as const }
    await openRefresh(db, next)
    await takeKept(db, { dataset: DATASET, tag: of.tag, refreshId: next.refreshId })
    return (at) => ask(at, { refreshId: next.refreshId, tag: of.tag })
  },
  'approval.approved': decided('approved'),
  'approval.rejected': decided('rejected'),
  'approval.expired': asked(async (db, { refreshId }) => {
    await db.query(
      "update snapflip.approval_requests set expires_at = clock_timestamp() - interval '1 s' where decision is null",
    )
    await endApproval(db, refreshId, 'expired')
  }),
  'approval.withdrawn': asked((db, { refreshId }) => endApproval(db, refreshId, 'withdrawn')),
  'canary.begun': canary(async () => undefined, false),
  'canary.ramped': canary((db, canaryId) => rampCanary(db, { dataset: DATASET, canaryId, share: 0.5 })),
  'canary.passed': canary((db, canaryId) => judgeCanary(db, { canaryId, result: gate('pass', 'canary') })),
  'canary.refused': canary((db, canaryId) => judgeCanary(db, { canaryId, result: gate('reject', 'canary') })),
  'canary.ended': canary((db, canaryId) => endCanary(db, { canaryId, why: 'test' })),
  'flip.intended': move('flip', null),
  'flip.confirmed': move('flip', 'confirmed'),
  'flip.refused': move('flip', 'refused'),
  'flip.failed': move('flip', 'failed'),
  'rollback.intended': move('rollback', null),
  'rollback.confirmed': move('rollback', 'confirmed'),
  'rollback.refused': move('rollback', 'refused'),
  'rollback.failed': move('rollback', 'failed'),
  'rollback.absorbed': async (db) => {
    await flipped(db, await flipped(db, null))
    const pointer = await knownPointer(db, DATASET)
    if (pointer?.active == null) throw new Error('expected what was flipped to')
    const broken = applyChange(
      pointer,
      {
        ...{ kind: 'breakGlass', flipId: randomUUID(), expected: { tag: pointer.active.tag, epoch: pointer.epoch } },
        ...{ to: pointer.previous as Pin['version'], freshAsOf: null, by: 'ana@desk', reason: 'test', rebound: false },
        at: new Date().toISOString(),
      },
      DATASET,
    )
    if (broken.outcome !== 'applied') throw new Error(`expected a rollback, found ${JSON.stringify(broken)}`)
    return (at) => absorb(at, { dataset: DATASET, store: 'hot', pointer: broken.pointer })
  },
  'bake.passed': move('flip', 'confirmed', 'baked'),
  'bake.failed': move('flip', 'confirmed', 'failed'),
  'bake.unwatched': move('flip', 'confirmed', 'cutShort'),
  'drill.begun': async (db) => {
    const [drillId, from] = [randomUUID(), await flipped(db, null)]
    const to = await flipped(db, from)
    return (at) => beginDrill(at, { ...WHO, drillId, from, to })
  },
  'drill.intended': move('drill', null),
  'drill.confirmed': move('drill', 'confirmed'),
  'drill.refused': move('drill', 'refused'),
  'drill.failed': move('drill', 'failed'),
  'drill.cancelled': event({ kind: 'drill.cancelled', detail: { drillId: null, reason: 'x' } }),
  'drill.ended': async (db) => {
    const [drillId, from] = [randomUUID(), await flipped(db, null)]
    await beginDrill(db, { ...WHO, drillId, from, to: await flipped(db, from) })
    return (at) => endDrill(at, { dataset: DATASET, drillId, outcome: 'DONE', times: {}, summary: 'test' })
  },
  'schedule.paused': event({ kind: 'schedule.paused', detail: { reason: 'x' } }),
  'schedule.unpaused': event({ kind: 'schedule.unpaused', detail: { reason: 'x' } }),
  hold: async () => (db) => hold(db, { ...WHO, at: DAY.toISOString() }),
  resume: async (db) => {
    await hold(db, WHO)
    return (at) => resume(at, WHO)
  },
  quarantine: async (db) => {
    const { tag } = await passed(db)
    return (at) => quarantine(at, { ...WHO, tag })
  },
  release: async (db) => {
    const { tag } = await passed(db)
    await quarantine(db, { ...WHO, tag })
    return (at) => release(at, { ...WHO, tag })
  },
  pin: async (db) => pinned(await flipped(db, null)),
  unpin: async (db) => {
    await pinned(await flipped(db, null))(db)
    return (at) => liftPin(at, WHO)
  },
  'epoch.raised': async () => (db) => raiseEpoch(db, DATASET, 9),
  'store.followed': async (db) => {
    await applyFurtherStores(db, { ...WHO, stores: [COLD] })
    const tag = await flipped(db, null)
    const flipId = randomUUID()
    return (at) => recordFollowed(at, { ...COLD, flipId, tag, actor: null })
  },
  'store.degraded': async (db) => {
    await applyFurtherStores(db, { ...WHO, stores: [COLD] })
    return (at) => recordDegraded(at, { ...COLD, why: 'test' })
  },
  'anchor.accepted': async () => (db) =>
    acceptAnchor(db, { dataset: DATASET, anchor: { seq: 1, hash: generation() + generation() }, reason: 'restored' }),
  'alert.*': async () => {
    const about = { kind: 'GATE_REFUSED', dataset: DATASET, version: null, incident: 'x', actor: null } as const
    const told = { summary: 'test', evidence: {}, runbook: 'x', sinks: ['pager'], delivered: [] }
    return (db) => raiseAlert(db, { id: randomUUID(), ...about, ...told })
  },
}

async function copied(db: Db, { tag }: { refreshId: string; tag: string }) {
  await applyFurtherStores(db, { ...WHO, stores: [COLD] })
  const copy = { manifest: generation() + generation(), generation: generation(), from: 'hot' }
  return (at: Db) => recordCopy(at, { dataset: DATASET, url: COLD.url, tag, ...copy })
}

function pinned(tag: string) {
  const until = new Date(Date.now() + 60_000).toISOString()
  return (db: Db) => putPin(db, { ...WHO, tag, until })
}
