import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { datasetSchema } from '../../schemas/config.ts'
import type { Verdict } from '../../schemas/refresh.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { approvalOf, approvals, askApproval, endApproval } from '../../src/registry/approvals.ts'
import { decideApproval } from '../../src/registry/decide-approval.ts'
import { endCanary } from '../../src/registry/end-canary.ts'
import { grantsSql } from '../../src/registry/grants.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { intendCanary } from '../../src/registry/intend-canary.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { keptCandidate, takeKept } from '../../src/registry/kept-candidate.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import type { RequestedVia } from '../../src/registry/open-refresh-of.ts'
import { reopenWaived } from '../../src/registry/reopen-waived.ts'
import { restoreVersion } from '../../src/registry/restore-version.ts'
import { setVersionState } from '../../src/registry/set-version-state.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { standingRefusal } from '../../src/registry/standing-refusal.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { version } from '../../src/registry/version.ts'
import { waive } from '../../src/registry/waive.ts'
import { type TestDatabase, testDatabase, uniqueName } from '../support/services.ts'
import { aRefresh, close, DATASET, definition, gate, judge, judged } from './shop.ts'

describe('an approval', () => {
  let database: TestDatabase
  let pool: pg.Pool
  const logins = { ana: `ana_${uniqueName()}`, bo: `bo_${uniqueName()}`, cy: `cy_${uniqueName()}` }
  const as = {} as Record<keyof typeof logins, pg.Pool>
  let asked: { refreshId: string; tag: string }

  beforeAll(async () => {
    database = await testDatabase()
    pool = database.pool
    await pool.query(await grantsSql(pool, { tables: [] }))
    for (const [name, login] of Object.entries(logins) as [keyof typeof logins, string][]) {
      await pool.query(`create role ${login} login password 'pw' in role snapflip_operator`)
      const url = new URL(database.url)
      url.username = login
      url.password = 'pw'
      as[name] = new pg.Pool({ connectionString: url.href })
    }
    await policy('always')
  })
  afterAll(async () => {
    for (const each of Object.values(as)) await each.end()
    for (const login of Object.values(logins)) await pool.query(`drop role ${login}`)
    await database.drop()
  })
  beforeEach(async () => {
    if (asked !== undefined) await close(pool, asked.refreshId)
    asked = await waiting()
  })

  async function policy(when: 'never' | 'onHold' | 'always', beforeFlip = false) {
    const owner = decodeURIComponent(new URL(database.url).username)
    const roles = { operator: [logins.cy], approver: [logins.ana, logins.bo], admin: [owner] }
    await applyDefinition(pool, {
      dataset: DATASET,
      definition: datasetSchema.parse({ ...definition(), roles, approval: { when, beforeFlip } }),
    })
  }

  /** A refresh that ana asked for, whose version waits for an approval. */
  async function waiting({ verdict = 'pass' as Verdict, via = 'login' as RequestedVia, validForMs = 60_000 } = {}) {
    const refresh = { ...aRefresh(), requestedBy: logins.ana, requestedVia: via }
    const { refreshId, tag } = await judged(pool, { refresh, results: [gate(verdict, 'drift')] })
    const { manifestSha256 } = await version(pool, DATASET, tag)
    const ask = { refreshId, tag, manifestSha256: manifestSha256 as string, why: 'look', validForMs }
    await askApproval(pool, ask)
    await askApproval(pool, ask)
    return { refreshId, tag }
  }
  async function said(who: pg.Pool, { tag } = asked, change: object = {}) {
    const row = await version(pool, DATASET, tag)
    const { digest, manifestSha256 } = row as { digest: string; manifestSha256: string }
    return decideApproval(who, {
      dataset: DATASET,
      tag,
      decision: 'approved',
      reason: 'checked',
      digest,
      manifestSha256,
      ...change,
    })
  }
  async function flip({ refreshId, tag } = asked, flipId: string = randomUUID()) {
    const { manifestSha256 } = await version(pool, DATASET, tag)
    const intent = { flipId, dataset: DATASET, kind: 'flip' as const, from: null, to: tag, reason: null, actor: null }
    return intendFlip(pool, { ...intent, refreshId, manifestSha256: manifestSha256 as string })
  }
  const last = async (kind: string) => (await historyEntries(pool, { kind, limit: 1 }))[0]

  it('by another than asked is used up by one flip, in the transaction that intends it', async () => {
    await expect(flip()).rejects.toMatchObject({
      code: 'PREFLIP_REFUSED',
      message: expect.stringContaining('found none'),
    })
    expect(await said(as.bo)).toEqual({ actor: logins.bo })
    expect(await last('approval')).toMatchObject({
      kind: 'approval.approved',
      actor: logins.bo,
      version: asked.tag,
      detail: { reason: 'checked', requestedBy: logins.ana, refreshId: asked.refreshId },
    })
    const flipId = randomUUID()
    await flip(asked, flipId)
    // Again, as a retried activity does: the same flip.
    await flip(asked, flipId)
    const row = await approvalOf(pool, asked.refreshId)
    expect(row).toMatchObject({ decision: 'approved', decidedBy: logins.bo, usedBy: flipId })
    expect(await last('flip.intended')).toMatchObject({ detail: { flipId, approvalId: row?.approvalId } })
    await expect(flip(asked)).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
    await expect(said(as.bo)).rejects.toMatchObject({ code: 'APPROVAL_REFUSED', details: { why: 'used' } })
    await pool.query('delete from snapflip.flip_intents where id = $1', [flipId]).catch(() => undefined)
    await verifyHistory(pool)
  })

  it.each<[string, () => Promise<unknown>, object, object]>([
    ['by whoever asked', () => said(as.ana), { code: 'FORBIDDEN' }, { why: 'own' }],
    ['without the role', () => said(as.cy), { code: 'FORBIDDEN' }, { needed: 'approver', has: 'operator' }],
    [
      'of another manifest',
      () => said(as.bo, asked, { manifestSha256: '0'.repeat(64) }),
      { code: 'APPROVAL_REFUSED' },
      { why: 'other' },
    ],
    [
      'of another digest',
      () => said(as.bo, asked, { digest: '0'.repeat(64) }),
      { code: 'APPROVAL_REFUSED' },
      { why: 'other' },
    ],
    [
      'of a version that nobody asked about',
      () => said(as.bo, asked, { tag: 'v20200101-01' }),
      { code: 'APPROVAL_REFUSED' },
      { why: 'none' },
    ],
  ])('%s is refused, which is in the history', async (_title, attempt, error, detail) => {
    await expect(attempt()).rejects.toMatchObject(error)
    expect(await last('action.refused')).toMatchObject({ detail: { action: 'approve', ...detail } })
    expect(await approvalOf(pool, asked.refreshId)).toMatchObject({ decision: null })
    await expect(flip()).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
  })

  it('once decided is not decided again, nor after its refresh has ended', async () => {
    await said(as.bo, asked, { decision: 'rejected' })
    await expect(said(as.bo)).rejects.toMatchObject({ code: 'APPROVAL_REFUSED', details: { why: 'decided before' } })
    await expect(flip()).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
    await close(pool, asked.refreshId)
    asked = await waiting()
    await close(pool, asked.refreshId)
    expect(await approvalOf(pool, asked.refreshId)).toMatchObject({ decision: 'withdrawn', decidedBy: null })
    expect(await last('approval')).toMatchObject({ kind: 'approval.withdrawn' })
    await expect(said(as.bo)).rejects.toMatchObject({ details: { why: 'decided before' } })
  })

  it('that nobody gave in time has expired; one that was given counts no longer than that', async () => {
    await close(pool, asked.refreshId)
    asked = await waiting({ validForMs: 1 })
    await expect(said(as.bo)).rejects.toMatchObject({ code: 'APPROVAL_REFUSED', details: { why: 'expired' } })
    await endApproval(pool, asked.refreshId, 'expired')
    await endApproval(pool, asked.refreshId, 'expired')
    expect(await historyEntries(pool, { kind: 'approval.expired', version: asked.tag })).toHaveLength(1)
    await close(pool, asked.refreshId)
    asked = await waiting()
    await said(as.bo)
    await pool.query(`update snapflip.approval_requests set expires_at = clock_timestamp() where refresh_id = $1`, [
      asked.refreshId,
    ])
    await expect(flip()).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
  })

  it('that nobody gave in time is asked for again by the next refresh; after a no, neither that nor a waiver takes the version up', async () => {
    const standing = async () => (await standingRefusal(pool, { dataset: DATASET, parent: null }))?.tag
    const ended = async (decision: 'expired' | 'rejected') => {
      await close(pool, asked.refreshId)
      // What a gate held, and a person waived since.
      asked = await waiting({ verdict: 'hold' })
      if (decision === 'rejected') await said(as.bo, asked, { decision })
      else {
        await pool.query(
          "update snapflip.approval_requests set expires_at = requested_at - interval '1 hour' where refresh_id = $1",
          [asked.refreshId],
        )
        await endApproval(pool, asked.refreshId, 'expired')
      }
      expect(await approvalOf(pool, asked.refreshId)).toMatchObject({ decision })
      await setVersionState(pool, { dataset: DATASET, tag: asked.tag, to: 'rejected', why: decision })
      await close(pool, asked.refreshId, 'REJECTED', asked.tag)
      return asked.tag
    }
    const expired = await ended('expired')
    expect(await standing()).not.toBe(expired)
    expect(await keptCandidate(pool, DATASET)).toMatchObject({ tag: expired })
    const again = { ...aRefresh(), requestedBy: logins.ana, requestedVia: 'login' as const }
    await openRefresh(pool, again)
    const { refreshId } = again
    expect(await takeKept(pool, { dataset: DATASET, tag: expired, refreshId })).toBe(true)
    expect(await last('version.reopened')).toMatchObject({ version: expired, detail: { from: 'rejected', refreshId } })
    const manifestSha256 = (await version(pool, DATASET, expired)).manifestSha256 as string
    await askApproval(pool, { refreshId, tag: expired, manifestSha256, why: 'look', validForMs: 60_000 })
    await said(as.bo, { refreshId, tag: expired }, { decision: 'rejected' })
    await setVersionState(pool, { dataset: DATASET, tag: expired, to: 'rejected', why: 'no' })
    await close(pool, refreshId, 'REJECTED', expired)
    expect(await keptCandidate(pool, DATASET)).toBeNull()
    expect(await standing()).toBe(expired)
    const rejected = await ended('rejected')
    expect(await standing()).toBe(rejected)
    const until = new Date(Date.now() + 3_600_000)
    for (const tag of [expired, rejected])
      await waive(pool, { dataset: DATASET, tag, gate: 'drift', until, reason: 'seen' })
    const next = aRefresh()
    await openRefresh(pool, next)
    const reopened = () => reopenWaived(pool, { dataset: DATASET, refreshId: next.refreshId, parent: null })
    expect(await reopened()).toBeNull()
    // Without those answers it is taken up; but not under another definition.
    await pool.query(`update snapflip.approval_requests set decision = 'withdrawn', decided_by = null where tag = $1`, [
      rejected,
    ])
    await pool.query('update snapflip.definitions set applied_at = clock_timestamp() where dataset = $1', [DATASET])
    expect(await reopened()).toBeNull()
    await pool.query('update snapflip.index_versions set state_at = clock_timestamp() where dataset = $1', [DATASET])
    expect(await reopened()).toMatchObject({ tag: rejected })
    await close(pool, next.refreshId)
  })

  it('of a refresh that a restored registry does not know is refused for good, not waited for', async () => {
    const { manifestSha256 } = (await version(pool, DATASET, asked.tag)) as { manifestSha256: string }
    const lost = { refreshId: randomUUID(), tag: asked.tag, manifestSha256, why: 'look', validForMs: 60_000 }
    await expect(askApproval(pool, lost)).rejects.toMatchObject({
      retryable: false,
      message: expect.stringContaining(`expected refresh ${lost.refreshId} to be open`),
    })
    await close(pool, asked.refreshId)
    const refresh = aRefresh()
    await openRefresh(pool, refresh)
    const unbuilt = { ...lost, refreshId: refresh.refreshId, tag: 'v20200101-01' }
    await expect(askApproval(pool, unbuilt)).rejects.toMatchObject({ retryable: false })
    await close(pool, refresh.refreshId)
  })

  it('is there, and not used, before readers get the candidate, unless it is asked for after the canary', async () => {
    const canaryOf = async ({ refreshId, tag }: typeof asked) => {
      const { manifestSha256 } = (await version(pool, DATASET, tag)) as { manifestSha256: string }
      const canaryId = randomUUID()
      const intent = { dataset: DATASET, refreshId, tag, manifestSha256, share: null, salt: 'ab', forMs: 1_000 }
      await intendCanary(pool, { ...intent, canaryId })
      return canaryId
    }
    const refused = { code: 'PREFLIP_REFUSED', message: expect.stringContaining('Expected an approval of') }
    await expect(canaryOf(asked)).rejects.toMatchObject(refused)
    await said(as.bo)
    const first = await canaryOf(asked)
    await endCanary(pool, { canaryId: first, why: 'a test' })
    await flip()
    // Held, answered and flipped to before, and sealed once more: that yes was used.
    await expect(canaryOf(asked)).rejects.toMatchObject(refused)

    await close(pool, asked.refreshId)
    asked = await waiting()
    await policy('always', true)
    await endCanary(pool, { canaryId: await canaryOf(asked), why: 'a test' })
    await expect(flip()).rejects.toMatchObject(refused)
    await policy('always')
  })

  it('is withdrawn after all else that ends its refresh: the history is the last lock taken', async () => {
    const client = await pool.connect()
    const query = vi.spyOn(client, 'query')
    await close(client, asked.refreshId)
    const statements = query.mock.calls.map(([statement]) => String(statement))
    query.mockRestore()
    client.release()
    const changed = statements.findLastIndex((statement) => statement.includes('update snapflip.'))
    const locked = statements.findIndex((statement) => /snapflip.(end_approval|record)/.test(statement))
    expect(changed).toBeGreaterThan(0)
    expect(changed).toBeLessThan(locked)
    expect(await approvalOf(pool, asked.refreshId)).toMatchObject({ decision: 'withdrawn' })
  })

  it('is of what was sealed when it was asked for, whatever the registry says afterwards', async () => {
    await said(as.bo)
    await pool.query(`update snapflip.index_versions set digest = repeat('0', 64) where dataset = $1 and tag = $2`, [
      DATASET,
      asked.tag,
    ])
    await expect(flip()).rejects.toMatchObject({
      code: 'PREFLIP_REFUSED',
      message: expect.stringContaining('found none'),
    })
  })

  it('of what a gate holds lets that through where the policy asks for it, and nothing that a gate rejects', async () => {
    await close(pool, asked.refreshId)
    asked = await waiting({ verdict: 'hold' })
    await said(as.bo)
    // As the refresh does once it has read the yes.
    await setVersionState(pool, { dataset: DATASET, tag: asked.tag, to: 'sealed', why: 'approved' })
    await policy('never')
    await expect(flip()).rejects.toMatchObject({
      code: 'PREFLIP_REFUSED',
      message: expect.stringContaining('against it'),
    })
    await policy('onHold')
    await pool.query(`update snapflip.gate_verdicts set verdict = 'reject' where tag = $1`, [asked.tag])
    await expect(flip()).rejects.toMatchObject({
      code: 'PREFLIP_REFUSED',
      message: expect.stringContaining('against it'),
    })
    await pool.query(`update snapflip.gate_verdicts set verdict = 'hold' where tag = $1`, [asked.tag])
    await flip()
    await policy('always')
  })

  it.each(['pass', 'hold'] as const)(
    'by which readers were on a version (%s) lets them come back to it, however late; no other yes does',
    async (verdict) => {
      await close(pool, asked.refreshId)
      asked = await waiting({ verdict })
      const { tag } = asked
      await said(as.bo)
      if (verdict === 'hold') await setVersionState(pool, { dataset: DATASET, tag, to: 'sealed', why: 'approved' })
      const flipId = randomUUID()
      await flip(asked, flipId)
      const again = async () => {
        const id = randomUUID()
        const { manifestSha256 } = await version(pool, DATASET, tag)
        const intent = {
          flipId: id,
          dataset: DATASET,
          kind: 'flip' as const,
          from: null,
          to: tag,
          reason: 'fine',
          actor: null,
        }
        await intendFlip(pool, { ...intent, manifestSha256: manifestSha256 as string })
        return id
      }
      // Nobody was on it: that it was approved is used up.
      await expect(again()).rejects.toMatchObject({
        code: 'PREFLIP_REFUSED',
        message: expect.stringContaining('found none'),
      })
      await settleFlip(pool, { flipId, outcome: 'confirmed', detail: {} })
      await close(pool, asked.refreshId)
      // As after a rollback and a release.
      await pool.query(`update snapflip.index_versions set state = 'retained' where tag = $1`, [tag])
      await pool.query(`update snapflip.approval_requests set expires_at = clock_timestamp() where tag = $1`, [tag])
      const forward = await again()
      const { approvalId } = (await approvalOf(pool, asked.refreshId)) ?? {}
      expect(await last('flip.intended')).toMatchObject({ detail: { flipId: forward, approvalId } })
      await settleFlip(pool, { flipId: forward, outcome: 'refused', detail: {} })
      // Copied back into a store that lost it, the same content has another manifest; twice, it is still what was approved.
      const { digest } = await version(pool, DATASET, tag)
      for (const manifest of ['a', 'b'].map((digit) => digit.repeat(64))) {
        const back = { dataset: DATASET, tag, digest: digest as string, manifest, generation: 'c'.repeat(32) }
        await restoreVersion(pool, { ...back, url: 'redis://hot', from: 'file:archive' })
        expect(await version(pool, DATASET, tag)).toMatchObject({ manifestSha256: manifest })
        await settleFlip(pool, { flipId: await again(), outcome: 'refused', detail: {} })
      }
      await pool.query(`update snapflip.index_versions set digest = repeat('0', 64) where dataset = $1 and tag = $2`, [
        DATASET,
        tag,
      ])
      await expect(again()).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
    },
  )

  it('of what an identity asked for that anybody can take is refused: it could be the approver', async () => {
    await close(pool, asked.refreshId)
    asked = await waiting({ via: 'temporal' })
    await expect(said(as.bo)).rejects.toMatchObject({ code: 'FORBIDDEN', details: { why: 'unverified' } })
    await said(as.bo, asked, { decision: 'rejected' })
  })

  it('of what a window then kept is carried on to the refresh that takes it up, unless whoever gave it asks for that', async () => {
    const { tag } = asked
    const ask = async (requestedBy: string, why = 'look') => {
      const refresh = { ...aRefresh(), requestedBy, requestedVia: 'login' as const }
      const { refreshId } = refresh
      await openRefresh(pool, refresh)
      const manifestSha256 = (await version(pool, DATASET, tag)).manifestSha256 as string
      const request = { refreshId, tag, manifestSha256, why, validForMs: 60_000 }
      // Not its version yet: which no retry mends.
      await expect(askApproval(pool, request)).rejects.toMatchObject({ code: 'INTERNAL' })
      expect(await takeKept(pool, { dataset: DATASET, tag, refreshId })).toBe(true)
      expect(await last('version.reopened')).toMatchObject({ version: tag, detail: { from: 'sealed', refreshId } })
      expect(await takeKept(pool, { dataset: DATASET, tag, refreshId })).toBe(false)
      // Found while it is open too: its changes are needed until it has flipped.
      expect(await keptCandidate(pool, DATASET)).toMatchObject({ tag, refreshId })
      await askApproval(pool, request)
      return { refreshId, decision: (await approvalOf(pool, refreshId))?.decision }
    }
    await said(as.bo)
    await close(pool, asked.refreshId, 'KEPT', tag)
    const own = await ask(logins.bo)
    expect(own.decision).toBeNull()
    await close(pool, own.refreshId, 'KEPT', tag)
    const another = await ask(logins.cy, 'something else to look at')
    expect(another.decision).toBeNull()
    await close(pool, another.refreshId, 'CANCELLED', tag)
    const { refreshId, decision } = await ask(logins.cy)
    expect(decision).toBe('approved')
    expect(await last('approval.carried')).toMatchObject({ version: tag, detail: { refreshId } })
    expect(await approvalOf(pool, asked.refreshId)).toBeNull()
    await flip({ refreshId, tag })
    asked = { refreshId, tag }
  })

  it('vouches for what the gates found when it was given: a kept version is judged anew by whoever takes it up', async () => {
    await close(pool, asked.refreshId, 'CANCELLED', asked.tag)
    await policy('onHold')
    const kept = await waiting({ verdict: 'hold' })
    await said(as.bo, kept)
    await close(pool, kept.refreshId, 'KEPT', kept.tag)
    const refresh = { ...aRefresh(), requestedBy: logins.cy, requestedVia: 'login' as const }
    await openRefresh(pool, refresh)
    await takeKept(pool, { dataset: DATASET, tag: kept.tag, refreshId: refresh.refreshId })
    const judged = await judge(pool, refresh.refreshId, kept.tag, [gate('reject', 'integrity')])
    expect(judged).toMatchObject([{ gate: 'integrity', verdict: 'reject' }])
    expect((await version(pool, DATASET, kept.tag)).state).toBe('rejected')
    await policy('always')
    asked = { refreshId: refresh.refreshId, tag: kept.tag }
  })

  it('and its history are written through their functions alone', async () => {
    for (const statement of [
      `insert into snapflip.approval_requests select * from snapflip.approval_requests`,
      `update snapflip.approval_requests set decision = 'approved', decided_by = 'x', decided_at = now()`,
      `delete from snapflip.approval_requests`,
      `insert into snapflip.history select * from snapflip.history`,
      `select snapflip.ask_approval(null, null, null, null, null)`,
      `select snapflip.use_approval(null, null, null, null, null)`,
      `select snapflip.authorize_as('shop', 'approve', 'bo', null, null)`,
    ])
      await expect(as.bo.query(statement), statement).rejects.toMatchObject({ code: '42501' })
    expect((await approvals(as.bo, { dataset: DATASET, waiting: true })).map(({ tag }) => tag)).toEqual([asked.tag])
  })
})
