import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { settleOpenFlips } from '../../activities/settle-flips.ts'
import { datasetSchema } from '../../schemas/config.ts'
import { HISTORY_KINDS } from '../../src/core/history-kinds.ts'
import { emptyPointer } from '../../src/core/pointer.ts'
import { takeOver } from '../../src/registry/absorb.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { openFlips } from '../../src/registry/flips.ts'
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
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { transaction } from '../../src/registry/transaction.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import type { Store } from '../../src/stores/ports.ts'
import { type TestDatabase, testDatabase, uniqueName } from '../support/services.ts'
import { allocate, close, DATASET, definition, flipped, gate, judge, open, seal } from './shop.ts'

describe('what people write with their own connections', () => {
  let database: TestDatabase
  const logins = {
    op: `op_${uniqueName()}`,
    lead: `lead_${uniqueName()}`,
    guest: `guest_${uniqueName()}`,
    nobody: `nobody_${uniqueName()}`,
    /** In the role of those who apply; the policy does not name it. */
    stray: `stray_${uniqueName()}`,
  }
  const as = {} as Record<keyof typeof logins, pg.Pool>
  let rejected: string

  beforeAll(async () => {
    database = await testDatabase()
    await database.pool.query(await grantsSql(database.pool, { tables: [] }))
    for (const [name, login] of Object.entries(logins) as [keyof typeof logins, string][]) {
      await database.pool.query(
        `create role ${login} login password 'pw' in role snapflip_${name === 'stray' ? 'capture' : 'operator'}`,
      )
      const url = new URL(database.url)
      Object.assign(url, { username: login, password: 'pw' })
      as[name] = new pg.Pool({ connectionString: url.href })
    }
    const owner = (await database.pool.query<{ name: string }>('select session_user as name')).rows[0]?.name
    const roles = { viewer: [logins.guest], operator: [logins.op], approver: [logins.lead], admin: [owner] }
    await applyDefinition(database.pool, {
      dataset: DATASET,
      definition: datasetSchema.parse({ ...definition(), roles, may: { drill: 'viewer' } }),
    })
    await flipped(database.pool, await flipped(database.pool, await flipped(database.pool, null)))
    const refreshId = await open(database.pool)
    rejected = (await allocate(database.pool, refreshId)).tag
    await sealVersion(database.pool, seal(rejected))
    await judge(database.pool, refreshId, rejected, [gate('reject', 'drift')])
    await close(database.pool, refreshId, 'REJECTED', rejected)
  })
  afterAll(async () => {
    for (const pool of Object.values(as)) await pool.end()
    for (const login of Object.values(logins)) await database.pool.query(`drop role ${login}`)
    await database.drop()
  })
  beforeEach(async () => {
    const { rows } = await database.pool.query('select from snapflip.flip_intents where outcome is null')
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
  const flipId = randomUUID()
  const flip = (kind: string, from: string, to: string, rest: string) =>
    `insert into snapflip.flip_intents (id, dataset, kind, from_tag, to_tag, epoch, actor, outcome, settled_at)
     values ('${flipId}', '${DATASET}', '${kind}', '${from}', '${to}', 1000, session_user, ${rest})`
  const FURTHER = `insert into snapflip.further_stores (dataset, store, name, state) values ('${DATASET}', 'file:x', 'x', 'current')`
  const intended = (kind: string) => entry(`${kind}.intended`, `{"flipId": "${flipId}"}`)
  const told = intended('rollback')
  /** All that readers were on: the active version last. */
  async function tags(): Promise<string[]> {
    const { rows } = await database.pool.query<{ tag: string }>(
      `select tag from snapflip.index_versions where state in ('active', 'retained') order by state = 'active', ordinal`,
    )
    return rows.map(({ tag }) => tag)
  }

  it('is what their verbs write: hold, resume, quarantine, release, pin, alert, rollback', async () => {
    const { op, lead } = as
    const by = logins.op
    await hold(op, { dataset: DATASET, by, reason: 'wait' })
    await hold(op, { dataset: DATASET, by, reason: 'wait longer' })
    await resume(lead, { dataset: DATASET, by: logins.lead, reason: 'go' })
    const [first = '', before = '', now = ''] = await tags()
    const until = new Date(Date.now() + 60_000).toISOString()
    await putPin(op, { dataset: DATASET, tag: before, until, by, reason: 'compare' })
    await liftPin(op, { dataset: DATASET, by, reason: 'seen' })
    await quarantine(op, { dataset: DATASET, tag: before, by, reason: 'odd' })
    await release(lead, { dataset: DATASET, tag: before, by: logins.lead, reason: 'fine' })
    const alert = { id: randomUUID(), kind: 'STORE_DEGRADED' as const, dataset: DATASET, version: null, incident: 'x' }
    const rest = { actor: null, summary: '', evidence: {}, runbook: '', sinks: ['pager'], delivered: [] }
    await raiseAlert(op, { ...alert, ...rest })
    await raiseAlert(op, { ...alert, ...rest, id: randomUUID() })
    await database.pool.query(
      `insert into snapflip.canaries (id, dataset, tag, refresh_id, epoch, salt, ends_at)
       select gen_random_uuid(), dataset, tag, refresh_id, 1, '', now() from snapflip.index_versions where tag = $1`,
      [rejected],
    )
    const backId = randomUUID()
    const back = { dataset: DATASET, kind: 'rollback', from: now, to: before, reason: 'bad', actor: by } as const
    await intendFlip(op, { flipId: backId, ...back })
    const at = new Date().toISOString()
    await settleFlip(op, { flipId: backId, outcome: 'confirmed', detail: {}, hold: { by, reason: 'bad', at } })
    expect((await tags()).at(-1)).toBe(before)
    const known = await knownPointer(op, DATASET)
    const epoch = { registry: known?.epoch.registry ?? 0, breakGlass: 1 }
    // Not known where that was made.
    await quarantine(op, { dataset: DATASET, tag: first, by, reason: 'odd as well' })
    const glass = { flipId: randomUUID(), from: before, to: first, by: 'ana@desk', reason: 'worse', rebound: false }
    const entries = [{ ...glass, at, epoch }]
    await transaction(op, (client) => takeOver(client, { dataset: DATASET, store: 'file:x', entries }))
    expect((await tags()).at(-1)).toBe(first)
    for (const tag of [first, before, now])
      await release(lead, { dataset: DATASET, tag, by: logins.lead, reason: 'it was good' })
    await resume(lead, { dataset: DATASET, by: logins.lead, reason: 'go' })
    await flipped(database.pool, first)
    await verifyHistory(database.pool)
  })

  it('takes readers to no version but an earlier one that they were on, whatever a statement says', async () => {
    const [before = '', other = '', ...rest] = await tags()
    const now = rest.at(-1) ?? ''
    const state = (to: string, tag: string) => `update snapflip.index_versions set state = '${to}' where tag = '${tag}'`
    await tries('op', flip('rollback', now, before, 'null, null'), told)
    const forbidden = `insert into snapflip.quarantines (dataset, tag, by, reason) values ('${DATASET}', '${before}', 'x', 'x')`
    for (const statements of [
      [flip('flip', now, rejected, `'confirmed', now()`), intended('flip')],
      [flip('flip', now, before, 'null, null'), intended('flip')],
      [flip('rollback', now, rejected, 'null, null'), told],
      [flip('rollback', now, before, `'confirmed', now()`), told],
      [flip('rollback', before, other, 'null, null'), told],
      [forbidden, entry('quarantine'), flip('rollback', now, before, 'null, null'), told],
      [state('retained', rejected), entry('version.retained')],
      [state('sealed', rejected), entry('release')],
      [state('quarantined', rejected), entry('quarantine')],
      [state('quarantined', now), entry('quarantine')],
    ]) {
      await expect(tries('op', ...statements), statements.join()).rejects.toMatchObject(refused)
    }
  })

  it('rewrites nothing that was', async () => {
    const [before = ''] = await tags()
    const open = `insert into snapflip.pins (dataset, tag, until, by, reason)
                  values ('${DATASET}', '${before}', now() + interval '1 hour', 'x', 'x')`
    await tries(
      'op',
      open,
      entry('pin'),
      `update snapflip.pins set lifted_at = now(), lifted_by = 'x' where lifted_at is null`,
    )
    const { rows: flips } = await database.pool.query<{ id: string }>(
      "select id from snapflip.flip_intents where kind = 'rollback'",
    )
    const { rows: canaries } = await database.pool.query<{ id: string }>('select id from snapflip.canaries')
    const flipped = entry('rollback.confirmed', `{"flipId": "${flips[0]?.id}"}`)
    const ended = entry('canary.ended', `{"canaryId": "${canaries[0]?.id}"}`)
    for (const statements of [
      ...['actor', 'reason', 'to_tag', 'outcome'].map((column) => [
        `update snapflip.flip_intents set ${column} = 'refused'`,
        flipped,
      ]),
      ['update snapflip.flip_intents set settled_at = now()', flipped],
      ['update snapflip.flip_intents set intended_at = now()', flipped],
      [`update snapflip.flip_intents set detail = detail || '{"runId": "mine"}'`, flipped],
      [`update snapflip.dataset_holds set dataset = 'other'`, entry('hold')],
      ['update snapflip.dataset_holds set lifted_at = now()', entry('resume')],
      [`update snapflip.quarantines set lifted_by = 'another'`, entry('release')],
      [open, `update snapflip.pins set dataset = 'other' where lifted_at is null`, entry('pin')],
      [open, `update snapflip.pins set tag = '${rejected}' where lifted_at is null`, entry('pin')],
      ['update snapflip.datasets set epoch_registry = 9000000000000000000', entry('epoch.raised')],
      [`update snapflip.canaries set outcome = 'refused'`, ended],
    ]) {
      await expect(tries('lead', ...statements), statements.join()).rejects.toMatchObject(refused)
    }
    const cut = `insert into snapflip.canaries (id, dataset, tag, refresh_id, epoch, salt, ends_at)
                 select gen_random_uuid(), dataset, tag, refresh_id, 2, '', now() from snapflip.index_versions where tag = '${rejected}'`
    await database.pool.query(cut)
    const unsaid = `update snapflip.canaries set outcome = 'ended', ended_at = now() where outcome is null`
    await expect(tries('op', unsaid)).rejects.toMatchObject(refused)
  })

  /** A row of each table that they write, as their verbs write it, and its entry. */
  async function rows(): Promise<Record<'held' | 'forbidden' | 'pinned' | 'alerted' | 'back', [string, string]>> {
    const [before = '', ...rest] = await tags()
    return {
      held: [
        `insert into snapflip.dataset_holds (dataset, by, reason, since) values ('${DATASET}', 'x', 'x', now())`,
        entry('hold'),
      ],
      forbidden: [
        `insert into snapflip.quarantines (dataset, tag, by, reason) values ('${DATASET}', '${before}', 'x', 'x')`,
        `select snapflip.record('${DATASET}', null, 'quarantine', '${before}', '{}')`,
      ],
      pinned: [
        `insert into snapflip.pins (dataset, tag, until, by, reason)
         values ('${DATASET}', '${before}', now() + interval '1 hour', 'x', 'x')`,
        entry('pin'),
      ],
      alerted: [
        `insert into snapflip.alerts (id, kind, dataset, incident, summary, evidence, runbook)
         values (gen_random_uuid(), 'STORE_DEGRADED', '${DATASET}', 'f', '', '{}', '')`,
        entry('alert.store_degraded'),
      ],
      back: [flip('rollback', rest.at(-1) ?? '', before, 'null, null'), told],
    }
  }

  it('is asked of the policy, as their verbs are', async () => {
    const theirs = await rows()
    const { alerted: _, ...acts } = theirs
    for (const statements of Object.values(acts)) {
      await tries('op', ...statements)
      await expect(tries('guest', ...statements), statements[0]).rejects.toMatchObject({
        ...refused,
        message: expect.stringContaining('somebody who may'),
      })
    }
    await database.pool.query(
      `insert into snapflip.copies (dataset, store, tag, manifest_sha256, generation)
       select dataset, 'file:x', tag, manifest_sha256, generation from snapflip.index_versions where tag = $1`,
      [rejected],
    )
    for (const statements of [
      [entry('hold')],
      [FURTHER, entry('stores.applied')],
      [`update snapflip.alerts set times = times + 1`],
      [`delete from snapflip.copies`, entry('copy.gone')],
    ]) {
      await tries('guest', ...statements)
      await expect(tries('nobody', ...statements), statements[0]).rejects.toMatchObject(refused)
    }
    const lift = (table: string) =>
      `update snapflip.${table} set lifted_at = now(), lifted_by = 'x', lifted_reason = 'x' where lifted_at is null`
    const { held, forbidden } = theirs
    const released = forbidden[1].replace('quarantine', 'release')
    await expect(tries('op', ...held, lift('dataset_holds'), entry('resume'))).rejects.toMatchObject(refused)
    await tries('lead', ...held, lift('dataset_holds'), entry('resume'))
    await expect(tries('op', ...forbidden, lift('quarantines'), released)).rejects.toMatchObject(refused)
    await tries('lead', ...forbidden, lift('quarantines'), released)
    // An error alone: what raises takes its entry back.
    const { rows: said } = await database.pool.query("select from snapflip.history where kind = 'action.refused'")
    expect(said).toEqual([])
  })

  it('is in the history, each time', async () => {
    const [before = ''] = await tags()
    const unsaid = { ...refused, message: expect.stringContaining('entry of the history') }
    for (const statement of [
      ...Object.values(await rows()).map(([row]) => row),
      FURTHER,
      'delete from snapflip.copies',
      `update snapflip.index_versions set manifest_sha256 = repeat('0', 64) where tag = '${before}'`,
      'update snapflip.datasets set epoch_registry = epoch_registry + 1',
    ]) {
      const another = statement.includes('snapflip.alerts') ? 'hold' : 'alert.other'
      await expect(tries('op', statement, entry(another)), statement).rejects.toMatchObject(unsaid)
    }
  })

  it('is told in their own transaction, and of each version', async () => {
    const [before = '', other = ''] = await tags()
    const { held } = await rows()
    const quarantineOf = (tag: string) =>
      `insert into snapflip.quarantines (dataset, tag, by, reason) values ('${DATASET}', '${tag}', 'x', 'x')`
    const of = (tag: string) => `select snapflip.record('${DATASET}', null, 'quarantine', '${tag}', '{}')`
    await tries('op', quarantineOf(before), of(before), quarantineOf(other), of(other))
    const unsaid = { ...refused, message: expect.stringContaining('entry of the history') }
    await expect(tries('op', quarantineOf(before), of(before), quarantineOf(other))).rejects.toMatchObject(unsaid)
    const client = await as.op.connect()
    try {
      await client.query('begin')
      // Another of the same login, committed meanwhile.
      await hold(as.op, { dataset: DATASET, by: logins.op, reason: 'theirs' })
      await client.query(`update snapflip.dataset_holds set lifted_at = now(), lifted_by = 'x' where lifted_at is null`)
      await client.query(held[0])
      await expect(client.query('set constraints all immediate')).rejects.toMatchObject(unsaid)
    } finally {
      await client.query('rollback')
      client.release()
    }
    await resume(as.lead, { dataset: DATASET, by: logins.lead, reason: 'go' })
  })

  it('moves no version but with its flip, its quarantine or its release', async () => {
    const [before = '', ...rest] = await tags()
    const now = rest.at(-1) ?? ''
    const state = (to: string, tag: string) => `update snapflip.index_versions set state = '${to}' where tag = '${tag}'`
    const forbidden = `insert into snapflip.quarantines (dataset, tag, by, reason) values ('${DATASET}', '${before}', 'x', 'x')`
    const of = (kind: string) => `select snapflip.record('${DATASET}', null, '${kind}', '${before}', '{}')`
    const isForbidden = [forbidden, of('quarantine'), state('quarantined', before)]
    for (const statements of [
      [state('retained', now), entry('version.retained')],
      [state('quarantined', before), of('version.quarantined')],
      [...isForbidden, state('retained', before)],
      [...isForbidden, state('sealed', before)],
    ])
      await expect(tries('lead', ...statements), statements.join()).rejects.toMatchObject(refused)
    await database.pool.query(state('retired', before))
    try {
      const taken = [state('retained', before), entry('version.retained')]
      await expect(tries('lead', ...taken)).rejects.toMatchObject(refused)
    } finally {
      await database.pool.query(state('retained', before))
    }
  })

  it('settles no flip of a worker for those who may take readers nowhere', async () => {
    const [before = '', ...rest] = await tags()
    await database.pool.query(flip('rollback', rest.at(-1) ?? '', before, 'null, null'))
    try {
      const settled = `update snapflip.flip_intents set outcome = 'refused', settled_at = now() where outcome is null`
      const said = entry('rollback.refused', `{"flipId": "${flipId}"}`)
      await tries('op', settled, said)
      await expect(tries('guest', settled, said)).rejects.toMatchObject({
        ...refused,
        message: expect.stringContaining('somebody who may rollback or flip'),
      })
      // Their commands go on, and leave it to a worker.
      const pointer = { ...emptyPointer(DATASET), epoch: { registry: 1000, breakGlass: 0 } }
      const store = { url: 'file:x', pointer: { read: async () => ({ pointer, token: 'x' }) } } as unknown as Store
      await settleOpenFlips({ pool: as.guest }, store, DATASET)
      expect(await openFlips(database.pool, DATASET)).toMatchObject([{ flipId }])
      await settleOpenFlips({ pool: as.op }, store, DATASET)
      expect(await openFlips(database.pool, DATASET)).toEqual([])
    } finally {
      await database.pool.query(`delete from snapflip.flip_intents where id = '${flipId}'`)
    }
  })

  it('moves no dataset to another store, and takes no capture off, for those who may not apply', async () => {
    await database.pool.query(`update snapflip.datasets set store = 'file:here'`)
    for (const change of [
      `store = 'file:x', store_epoch = epoch_registry`,
      'store_epoch = epoch_registry',
      'detached_at = now()',
    ]) {
      const statement = `update snapflip.datasets set ${change}`
      await expect(tries('stray', statement), statement).rejects.toMatchObject({
        ...refused,
        message: expect.stringContaining('somebody who may apply'),
      })
    }
  })

  it('silences no alert of a worker, neither before nor after', async () => {
    const rest = { actor: null, summary: '', evidence: {}, runbook: '', sinks: ['pager'], delivered: [] }
    const alert = { id: randomUUID(), kind: 'BAKE_FAILED' as const, dataset: DATASET, version: null, incident: 'y' }
    const taken = raiseAlert(as.op, { ...alert, ...rest })
    await expect(taken).rejects.toMatchObject({ code: 'PRIVILEGE_MISSING' })
    expect(await raiseAlert(database.pool, { ...alert, ...rest })).toMatchObject({ isNew: true })
    for (const statement of [
      `update snapflip.alert_deliveries set outcome = 'delivered', settled_at = now()`,
      `update snapflip.alerts set incident = 'z'`,
      `insert into snapflip.alert_deliveries (alert, sink) select id, 'another' from snapflip.alerts`,
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
      'refresh.cancelled',
      'version.active',
      'version.retained',
      'version.quarantined',
      'version.restored',
      'copy.gone',
      'drill.cancelled',
      'schedule.paused',
      'schedule.unpaused',
      'hold',
      'resume',
      'quarantine',
      'release',
      'pin',
      'unpin',
      'epoch.raised',
      'alert.*',
    ])
  })
})
