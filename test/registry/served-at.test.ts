import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import type { BreakGlassEntry } from '../../schemas/pointer.ts'
import type { HistoryKind } from '../../src/core/history-kinds.ts'
import { takeOver } from '../../src/registry/absorb.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { applyFurtherStores } from '../../src/registry/apply-further-stores.ts'
import { recordDegraded, recordFollowed } from '../../src/registry/further-store-state.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import { activePin, putPin } from '../../src/registry/pins.ts'
import { quarantine } from '../../src/registry/quarantine.ts'
import { recordEvent } from '../../src/registry/record.ts'
import { release } from '../../src/registry/release.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { servedAt } from '../../src/registry/served-at.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { transaction } from '../../src/registry/transaction.ts'
import { waive } from '../../src/registry/waive.ts'
import { postgresVersions, testDatabase } from '../support/services.ts'
import {
  allocate,
  applyShop,
  aRefresh,
  close,
  DATASET,
  definition,
  flipped,
  gate,
  judge,
  move,
  open,
  passed,
  seal,
} from './shop.ts'

describe.each(postgresVersions)('PostgreSQL %s: what was served', (postgres) => {
  let pool: pg.Pool
  let login: string

  beforeEach(async () => {
    const database = await testDatabase({ version: postgres })
    pool = database.pool
    login = decodeURIComponent(new URL(database.url).username)
    await applyShop(pool)
    return database.drop
  })

  const now = async () => (await pool.query<{ now: Date }>('select clock_timestamp() as now')).rows[0]?.now as Date
  /** Times of the registry have microseconds, those of JavaScript none: a moment later than both. */
  const afterwards = async () => {
    const at = new Date((await now()).getTime() + 1)
    while ((await now()) <= at);
    return at
  }

  it('names the version of each moment, who took readers there and who took them away', async () => {
    const before = await now()
    const first = await flipped(pool, null)
    const onFirst = await afterwards()
    const second = await flipped(pool, first)
    const onSecond = await afterwards()
    await move(pool, { kind: 'rollback', from: second, to: first })
    const back = await afterwards()

    expect(await servedAt(pool, DATASET, before)).toMatchObject({ version: null, flip: null, next: { to: first } })
    expect(await servedAt(pool, DATASET, onFirst)).toMatchObject({
      version: { tag: first },
      flip: { kind: 'flip', to: first },
      next: { to: second },
      underWay: null,
      refresh: { tag: first, requestedBy: 'temporal:test' },
    })
    expect(await servedAt(pool, DATASET, onSecond)).toMatchObject({
      version: { tag: second, parent: first },
      next: { kind: 'rollback', to: first, actor: 'ana' },
    })
    expect(await servedAt(pool, DATASET, back)).toMatchObject({
      version: { tag: first },
      flip: { kind: 'rollback', from: second, actor: 'ana' },
      next: null,
    })
  })

  it('says which share of the readers was where, by canary and by pin, and who had decided what by then', async () => {
    const first = await flipped(pool, null)
    const { refreshId, tag } = await passed(pool, first)
    const told = (kind: HistoryKind, detail: object) =>
      recordEvent(pool, { dataset: DATASET, actor: 'ana', kind, version: tag, detail: { ...detail } })
    await told('approval.approved', { reason: 'looked at it' })
    const alone = await afterwards()
    await told('canary.begun', { canaryId: randomUUID(), refreshId, share: 0.25 })
    const shared = await afterwards()
    await told('canary.ramped', { canaryId: randomUUID(), from: 0.25, to: 0.5 })
    const ramped = await afterwards()
    await told('canary.passed', { verdict: 'pass', summary: 'as good as the active one' })
    await move(pool, { kind: 'flip', from: first, to: tag, refreshId })
    const after = await afterwards()
    await pool.query(
      `insert into snapflip.pins (dataset, tag, until, by, reason) values ($1, $2, now() + interval '1 hour', 'bo', 'a demo')`,
      [DATASET, first],
    )
    const pinned = await afterwards()
    await pool.query(`update snapflip.pins set lifted_at = clock_timestamp(), lifted_by = 'bo'`)
    const lifted = await afterwards()
    await told('quarantine', { reason: 'bad prices' })

    const all = (of: string, why = 'active') => [{ tag: of, share: 1, why }]
    expect(await servedAt(pool, DATASET, alone)).toMatchObject({ shares: all(first), canary: null })
    expect(await servedAt(pool, DATASET, shared)).toMatchObject({
      shares: [
        { tag: first, share: 0.75, why: 'active' },
        { tag, share: 0.25, why: 'candidate' },
      ],
      policy: { number: 1, appliedBy: login },
    })
    expect((await servedAt(pool, DATASET, ramped)).shares).toMatchObject([{ share: 0.5 }, { tag, share: 0.5 }])
    const served = await servedAt(pool, DATASET, after)
    expect(served).toMatchObject({ shares: all(tag), canary: null, pin: null, version: { tag } })
    expect(served.decisions).toMatchObject([
      { kind: 'approval.approved', actor: 'ana', detail: { reason: 'looked at it' } },
      { kind: 'canary.passed' },
    ])
    const atPin = await servedAt(pool, DATASET, pinned)
    expect(atPin).toMatchObject({ shares: all(first, 'pinned'), pin: { by: 'bo', reason: 'a demo' } })
    expect(await servedAt(pool, DATASET, lifted)).toMatchObject({ shares: all(tag), pin: null })
  })

  it('names a waiver by which the same content passed, given to an earlier version of it', async () => {
    const refreshId = await open(pool)
    const { tag: refused } = await allocate(pool, refreshId)
    const sealed = seal(refused)
    await sealVersion(pool, sealed)
    await judge(pool, refreshId, refused, [gate('reject', 'drift')])
    await close(pool, refreshId, 'REJECTED', refused)
    const until = new Date(Date.now() + 3_600_000)
    await waive(pool, { dataset: DATASET, tag: refused, gate: 'drift', until, reason: 'meant' })
    const again = await open(pool)
    const { tag } = await allocate(pool, again)
    await sealVersion(pool, seal(tag, { digest: sealed.digest }))
    await judge(pool, again, tag, [gate('reject', 'drift')])
    await move(pool, { kind: 'flip', from: null, to: tag, refreshId: again })
    const { decisions, version } = await servedAt(pool, DATASET, await afterwards())
    expect(version?.tag).toBe(tag)
    expect(decisions).toMatchObject([{ kind: 'gate.waived', version: refused, detail: { reason: 'meant' } }])
  })

  it('says that no approval was needed only where the policy under which readers first got it is known to ask for none', async () => {
    const first = await flipped(pool, null)
    const served = async () => servedAt(pool, DATASET, await afterwards())
    expect(await served()).toMatchObject({ approval: null, needlessBy: 1 })
    const approval = { when: 'onHold', beforeFlip: false, expiresAfterMs: 60_000 } as const
    await applyDefinition(pool, { dataset: DATASET, definition: { ...definition(), approval } })
    expect(await served()).toMatchObject({ approval: null, needlessBy: 1 })
    await flipped(pool, first)
    expect(await served()).toMatchObject({ approval: null, needlessBy: null })
    await move(pool, { kind: 'rollback', from: (await served()).version?.tag ?? '', to: first })
    await pool.query(`update snapflip.flip_intents set detail = '{"adopted": true}' where kind = 'flip'`)
    expect(await served()).toMatchObject({ version: { tag: first }, needlessBy: null })
  })

  it('names the policy that the refresh which built the version ran under, and apart from it the refresh that judged it', async () => {
    const built = await passed(pool)
    await applyDefinition(pool, { dataset: DATASET, definition: definition('public.others') })
    await close(pool, built.refreshId, 'KEPT', built.tag)
    const later = { ...aRefresh(), policy: { number: 2, digest: '1'.repeat(64) } }
    await openRefresh(pool, later)
    // As a waiver does, and a window that closed.
    await pool.query('update snapflip.index_versions set refresh_id = $1', [later.refreshId])
    await move(pool, { kind: 'flip', from: null, to: built.tag, refreshId: later.refreshId })
    // Opened when the second policy was in force already, as one is that was planned before.
    await pool.query('update snapflip.refresh_runs set opened_at = clock_timestamp() where id = $1', [built.refreshId])
    const at = await afterwards()
    expect(await servedAt(pool, DATASET, at)).toMatchObject({
      refresh: { refreshId: built.refreshId },
      judgedBy: { refreshId: later.refreshId },
      policy: { number: 1 },
    })
    await pool.query('update snapflip.refresh_runs set policy_number = null, policy_digest = null')
    expect(await servedAt(pool, DATASET, at)).toMatchObject({ policy: { number: 2 } })
  })

  it('says where the readers of each further store were, also while it was degraded and when it was named no more', async () => {
    const place = { dataset: DATASET, name: 'archive', url: 'file:archive' }
    const edge = { ...place, name: 'edge', url: 'file:edge' }
    await applyFurtherStores(pool, { dataset: DATASET, stores: [place, edge], by: 'ana' })
    const first = await flipped(pool, null)
    for (const store of [place, edge]) await recordFollowed(pool, { ...store, flipId: 'a', tag: first, actor: null })
    const both = await afterwards()
    const second = await flipped(pool, first)
    await recordDegraded(pool, { ...place, why: 'no answer' })
    await recordFollowed(pool, { ...edge, flipId: 'b', tag: second, actor: null })
    const degraded = await afterwards()
    await recordFollowed(pool, { ...place, flipId: 'b', tag: second, actor: null })
    const whole = await afterwards()
    await applyFurtherStores(pool, { dataset: DATASET, stores: [place], by: 'ana' })
    const one = await afterwards()

    const storesAt = async (at: Date) =>
      (await servedAt(pool, DATASET, at)).stores.map(({ name, state, tag }) => [name, state, tag])
    expect(await storesAt(both)).toEqual([
      ['archive', 'current', first],
      ['edge', 'current', first],
    ])
    expect(await servedAt(pool, DATASET, degraded)).toMatchObject({
      version: { tag: second },
      stores: [
        { name: 'archive', store: 'file:archive', state: 'degraded', tag: first, why: 'no answer' },
        { name: 'edge', state: 'current', tag: second, why: null },
      ],
    })
    expect(await storesAt(whole)).toEqual([
      ['archive', 'current', second],
      ['edge', 'current', second],
    ])
    expect(await storesAt(one)).toEqual([['archive', 'current', second]])
  })

  it('ends canary and pin when a break-glass rollback was made, not when the registry heard of it', async () => {
    const first = await flipped(pool, null)
    const second = await flipped(pool, first)
    const { refreshId, tag } = await passed(pool, second)
    const told = { dataset: DATASET, actor: 'ana', kind: 'canary.begun', version: tag } as const
    await recordEvent(pool, { ...told, detail: { canaryId: randomUUID(), refreshId, share: 0.1 } })
    const shared = await afterwards()
    const until = new Date(Date.now() + 3_600_000).toISOString()
    await putPin(pool, { dataset: DATASET, tag: second, until, by: 'bo', reason: 'a demo' })
    const pinned = await afterwards()
    const entry: BreakGlassEntry = {
      flipId: randomUUID(),
      epoch: { registry: 2, breakGlass: 1 },
      from: second,
      to: first,
      by: 'ana',
      reason: 'bad prices',
      at: (await afterwards()).toISOString(),
      rebound: false,
    }
    const between = await afterwards()
    await afterwards()
    await transaction(pool, (client) => takeOver(client, { dataset: DATASET, store: 'hot', entries: [entry] }))

    expect(await servedAt(pool, DATASET, shared)).toMatchObject({ canary: { tag, share: 0.1 }, pin: null })
    expect(await servedAt(pool, DATASET, pinned)).toMatchObject({ canary: { tag }, pin: { tag: second } })
    const none = { version: { tag: first }, canary: null, pin: null, shares: [{ tag: first, share: 1, why: 'active' }] }
    expect(await servedAt(pool, DATASET, between)).toMatchObject(none)
    expect(await servedAt(pool, DATASET, await afterwards())).toMatchObject(none)
  })

  it.each(['rollback', 'quarantine'] as const)(
    'says that a pin ended with the %s that forbade its version',
    async (how) => {
      const first = await flipped(pool, null)
      const second = await flipped(pool, first)
      const tag = how === 'rollback' ? second : first
      const until = new Date(Date.now() + 3_600_000).toISOString()
      await putPin(pool, { dataset: DATASET, tag, until, by: 'bo', reason: 'a demo' })
      const pinned = await afterwards()
      if (how === 'rollback') await move(pool, { kind: 'rollback', from: second, to: first })
      else await quarantine(pool, { dataset: DATASET, tag, by: 'ana', reason: 'bad' })
      const after = await afterwards()
      expect((await servedAt(pool, DATASET, pinned)).shares).toMatchObject([{ tag, why: 'pinned' }])
      const active = how === 'rollback' ? first : second
      expect(await servedAt(pool, DATASET, after)).toMatchObject({
        pin: null,
        shares: [{ tag: active, why: 'active' }],
      })
      expect(await historyEntries(pool, { kind: 'unpin' })).toMatchObject([{ version: tag, actor: 'ana' }])
      // A repair takes the pin from here.
      await release(pool, { dataset: DATASET, tag, by: 'ana', reason: 'fine' })
      expect(await activePin(pool, DATASET)).toBeNull()
    },
  )

  it('says that a flip was under way, and nothing of one that was refused', async () => {
    const first = await flipped(pool, null)
    const second = await flipped(pool, first)
    const flipId = randomUUID()
    const wanted = {
      flipId,
      dataset: DATASET,
      kind: 'rollback',
      from: second,
      to: first,
      reason: 'x',
      actor: 'ana',
    } as const
    await intendFlip(pool, wanted)
    const between = await afterwards()
    const during = { version: { tag: second }, underWay: { flipId, outcome: null } }
    expect(await servedAt(pool, DATASET, between)).toMatchObject(during)
    await settleFlip(pool, { flipId, outcome: 'confirmed', detail: {} })
    expect(await servedAt(pool, DATASET, between)).toMatchObject({
      ...during,
      underWay: { flipId, outcome: 'confirmed' },
    })

    const refused = randomUUID()
    const third = await flipped(pool, first)
    await intendFlip(pool, { ...wanted, flipId: refused, from: third, to: first })
    const later = await afterwards()
    await settleFlip(pool, { flipId: refused, outcome: 'refused', detail: {} })
    expect(await servedAt(pool, DATASET, later)).toMatchObject({ version: { tag: third }, underWay: null })
  })
})
