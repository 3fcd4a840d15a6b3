import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { datasetSchema } from '../../schemas/config.ts'
import { HISTORY_KINDS } from '../../src/core/history-kinds.ts'
import { takeOver } from '../../src/registry/absorb.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { grantsSql } from '../../src/registry/grants.ts'
import { hold } from '../../src/registry/hold.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { liftPin, putPin } from '../../src/registry/pins.ts'
import { quarantine } from '../../src/registry/quarantine.ts'
import { raiseAlert } from '../../src/registry/raise-alert.ts'
import { release } from '../../src/registry/release.ts'
import { resume } from '../../src/registry/resume.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { settleDelivery } from '../../src/registry/settle-delivery.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { transaction } from '../../src/registry/transaction.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { type TestDatabase, testDatabase, uniqueName } from '../support/services.ts'
import { allocate, DATASET, definition, flipped, gate, judge, open, seal } from './shop.ts'

describe('what people write with their own connections', () => {
  let database: TestDatabase
  const logins = { op: `op_${uniqueName()}`, lead: `lead_${uniqueName()}`, guest: `guest_${uniqueName()}` }
  const as = {} as Record<keyof typeof logins, pg.Pool>
  let rejected: string

  beforeAll(async () => {
    database = await testDatabase()
    await database.pool.query(await grantsSql(database.pool, { tables: [] }))
    for (const [name, login] of Object.entries(logins) as [keyof typeof logins, string][]) {
      await database.pool.query(`create role ${login} login password 'pw' in role snapflip_operator`)
      const url = new URL(database.url)
      Object.assign(url, { username: login, password: 'pw' })
      as[name] = new pg.Pool({ connectionString: url.href })
    }
    const owner = (await database.pool.query<{ name: string }>('select session_user as name')).rows[0]?.name
    const roles = { viewer: [logins.guest], operator: [logins.op], approver: [logins.lead], admin: [owner] }
    await applyDefinition(database.pool, {
      dataset: DATASET,
      definition: datasetSchema.parse({ ...definition(), roles }),
    })
    const v1 = await flipped(database.pool, null)
    await flipped(database.pool, v1)
    const refreshId = await open(database.pool)
    rejected = (await allocate(database.pool, refreshId)).tag
    await sealVersion(database.pool, seal(rejected))
    await judge(database.pool, refreshId, rejected, [gate('reject', 'drift')])
  })
  afterAll(async () => {
    for (const pool of Object.values(as)) await pool.end()
    for (const login of Object.values(logins)) await database.pool.query(`drop role ${login}`)
    await database.drop()
  })
  beforeEach(async () => {
    const { rows } = await database.pool.query('select from snapflip.flips where outcome is null')
    expect(rows).toEqual([])
  })

  const refused = { code: '42501' }
  /** Statements in one transaction, which is taken back. */
  async function tries(who: keyof typeof logins, ...statements: string[]): Promise<void> {
    const client = await as[who].connect()
    try {
      for (const statement of ['begin', ...statements, 'set constraints all immediate']) await client.query(statement)
    } finally {
      await client.query('rollback')
      client.release()
    }
  }
  const entry = (kind: string, detail = '{}') =>
    `select snapflip.record('${DATASET}', null, '${kind}', null, '${detail}')`
  async function tags(): Promise<[string, string]> {
    const { rows } = await database.pool.query<{ tag: string }>(
      `select tag from snapflip.versions where state in ('active', 'retained') order by state = 'active'`,
    )
    return [rows[0]?.tag ?? '', rows[1]?.tag ?? '']
  }

  it('is what their verbs write: hold, resume, quarantine, release, pin, alert, rollback', async () => {
    const { op, lead } = as
    const by = logins.op
    await hold(op, { dataset: DATASET, by, reason: 'wait' })
    await hold(op, { dataset: DATASET, by, reason: 'wait longer' })
    await resume(lead, { dataset: DATASET, by: logins.lead, reason: 'go' })
    const [before, now] = await tags()
    const until = new Date(Date.now() + 60_000).toISOString()
    await putPin(op, { dataset: DATASET, tag: before, until, by, reason: 'compare' })
    await liftPin(op, { dataset: DATASET, by, reason: 'seen' })
    await quarantine(op, { dataset: DATASET, tag: before, by, reason: 'odd' })
    await release(lead, { dataset: DATASET, tag: before, by: logins.lead, reason: 'fine' })
    const alert = { id: randomUUID(), kind: 'STORE_DEGRADED' as const, dataset: DATASET, version: null, incident: 'x' }
    const rest = { actor: null, summary: '', evidence: {}, runbook: '', sinks: ['pager'], delivered: [] }
    await raiseAlert(op, { ...alert, ...rest })
    await raiseAlert(op, { ...alert, ...rest, id: randomUUID() })
    await settleDelivery(op, { alert: alert.id, sink: 'pager', result: 'delivered', found: null })
    const flipId = randomUUID()
    const intent = {
      flipId,
      dataset: DATASET,
      kind: 'rollback',
      from: now,
      to: before,
      reason: 'bad',
      actor: by,
    } as const
    await intendFlip(op, intent)
    await settleFlip(op, {
      flipId,
      outcome: 'confirmed',
      detail: {},
      hold: { by, reason: 'bad', at: new Date().toISOString() },
    })
    expect((await tags())[0]).toBe(before)
    const entry = { flipId: randomUUID(), from: before, to: now, by: 'ana@desk', reason: 'worse', rebound: false }
    await release(lead, { dataset: DATASET, tag: now, by: logins.lead, reason: 'it was good' })
    const known = await knownPointer(op, DATASET)
    const epoch = { registry: known?.epoch.registry ?? 0, breakGlass: 1 }
    const entries = [{ ...entry, at: new Date().toISOString(), epoch }]
    await transaction(op, (client) => takeOver(client, { dataset: DATASET, store: 'file:x', entries }))
    expect((await tags())[0]).toBe(now)
    await release(lead, { dataset: DATASET, tag: before, by: logins.lead, reason: 'it was good' })
    await resume(lead, { dataset: DATASET, by: logins.lead, reason: 'go' })
    await verifyHistory(database.pool)
  })

  it('takes readers to no version that they were not on, whatever a statement says', async () => {
    const [before, now] = await tags()
    const flip = (kind: string, to: string, rest: string) =>
      `insert into snapflip.flips (id, dataset, kind, from_tag, to_tag, epoch, actor, outcome, settled_at)
       values (gen_random_uuid(), '${DATASET}', '${kind}', '${now}', '${to}', 1000, session_user, ${rest})`
    for (const statement of [
      flip('flip', rejected, `'confirmed', now()`),
      flip('flip', rejected, 'null, null'),
      flip('rollback', rejected, 'null, null'),
      flip('flip', before, 'null, null'),
      flip('rollback', now, `'confirmed', now()`),
      `update snapflip.versions set state = 'retained' where tag = '${rejected}'`,
      `update snapflip.versions set state = 'sealed' where tag = '${rejected}'`,
      `update snapflip.flips set to_tag = '${rejected}'`,
      `update snapflip.flips set outcome = 'refused'`,
    ]) {
      await expect(tries('op', statement, entry('hold')), statement).rejects.toMatchObject(refused)
    }
  })

  /** A row of each table that they write, as their verbs write it. */
  async function rows(): Promise<Record<'held' | 'forbidden' | 'pinned' | 'drilled' | 'alerted' | 'back', string>> {
    const [before, now] = await tags()
    return {
      held: `insert into snapflip.holds (dataset, by, reason, since) values ('${DATASET}', 'x', 'x', now())`,
      forbidden: `insert into snapflip.quarantines (dataset, tag, by, reason) values ('${DATASET}', '${before}', 'x', 'x')`,
      pinned: `insert into snapflip.pins (dataset, tag, until, by, reason)
               values ('${DATASET}', '${before}', now() + interval '1 hour', 'x', 'x')`,
      drilled: `insert into snapflip.drills (id, dataset, from_tag, to_tag, by, reason)
                values (gen_random_uuid(), '${DATASET}', '${now}', '${before}', 'x', 'x')`,
      alerted: `insert into snapflip.alerts (id, kind, dataset, incident, summary, evidence, runbook)
                values (gen_random_uuid(), 'BAKE_FAILED', '${DATASET}', 'f', '', '{}', '')`,
      back: `insert into snapflip.flips (id, dataset, kind, from_tag, to_tag, epoch, actor)
             values (gen_random_uuid(), '${DATASET}', 'rollback', '${now}', '${before}', 1000, 'x')`,
    }
  }

  it('is asked of the policy, as their verbs are', async () => {
    const theirs = await rows()
    const lift = (table: string) =>
      `update snapflip.${table} set lifted_at = now(), lifted_by = 'x', lifted_reason = 'x' where lifted_at is null`
    for (const statement of Object.values(theirs)) {
      await tries('op', statement, entry('hold'))
      await expect(tries('guest', statement, entry('hold')), statement).rejects.toMatchObject(refused)
    }
    const { held, forbidden } = theirs
    await expect(tries('op', held, lift('holds'), entry('resume'))).rejects.toMatchObject(refused)
    await tries('lead', held, lift('holds'), entry('resume'))
    await expect(tries('op', forbidden, lift('quarantines'), entry('release'))).rejects.toMatchObject(refused)
    await tries('lead', forbidden, lift('quarantines'), entry('release'))
  })

  it('is in the history, each time', async () => {
    const [before] = await tags()
    const state = `update snapflip.versions set state = 'quarantined' where tag = '${before}'`
    for (const statement of [...Object.values(await rows()), state]) {
      await expect(tries('op', statement), statement).rejects.toMatchObject({
        ...refused,
        message: expect.stringContaining('entry of the history'),
      })
    }
  })

  it('silences no alert of another', async () => {
    const id = randomUUID()
    const rest = { actor: null, summary: '', evidence: {}, runbook: '', sinks: ['pager'], delivered: [] }
    await raiseAlert(database.pool, {
      id,
      kind: 'BAKE_FAILED',
      dataset: DATASET,
      version: null,
      incident: 'y',
      ...rest,
    })
    for (const statement of [
      `update snapflip.alert_deliveries set outcome = 'delivered', settled_at = now() where alert = '${id}'`,
      `update snapflip.alerts set incident = 'z' where id = '${id}'`,
    ]) {
      await expect(tries('op', statement, entry('hold')), statement).rejects.toMatchObject(refused)
    }
  })

  it('says in the history what their verbs say, and nothing else', async () => {
    const people = []
    for (const kind of Object.keys(HISTORY_KINDS)) {
      const said = kind.replace('*', 'bake_failed')
      const isTheirs = await tries('op', entry(said, '{"flipId": "none"}')).then(
        () => true,
        () => false,
      )
      if (isTheirs) people.push(kind)
    }
    expect(people).toEqual([
      'capture.attached',
      'capture.removed',
      'capture.detached',
      'store.applied',
      'stores.applied',
      'version.active',
      'version.retained',
      'version.quarantined',
      'version.restored',
      'copy.gone',
      'canary.ended',
      'drill.begun',
      'drill.ended',
      'hold',
      'resume',
      'quarantine',
      'release',
      'pin',
      'unpin',
      'epoch.raised',
      'store.followed',
      'store.degraded',
      'alert.*',
    ])
  })
})
