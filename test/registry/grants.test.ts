import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { prune } from '../../src/changelog/prune.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { applyFurtherStores } from '../../src/registry/apply-further-stores.ts'
import { applyStore } from '../../src/registry/apply-store.ts'
import { claimDeliveries } from '../../src/registry/claim-deliveries.ts'
import { connectRegistry } from '../../src/registry/connect.ts'
import { copies, forgetCopies, recordCopy } from '../../src/registry/copies.ts'
import { recordDegraded, recordFollowed } from '../../src/registry/further-store-state.ts'
import { grantsSql, VIEWER_READS } from '../../src/registry/grants.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { hold } from '../../src/registry/hold.ts'
import { journalledGenerations } from '../../src/registry/journalled-generations.ts'
import { lackingGrants } from '../../src/registry/lacking-grants.ts'
import { migrationsPending } from '../../src/registry/migrate.ts'
import { raiseAlert } from '../../src/registry/raise-alert.ts'
import { recordEvent } from '../../src/registry/record.ts'
import { reopenDeliveries } from '../../src/registry/reopen-deliveries.ts'
import { restoreVersion } from '../../src/registry/restore-version.ts'
import { resume } from '../../src/registry/resume.ts'
import { retire, swept } from '../../src/registry/retire.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { settleDelivery } from '../../src/registry/settle-delivery.ts'
import { status } from '../../src/registry/status.ts'
import { undeliveredAlerts } from '../../src/registry/undelivered-alerts.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { version } from '../../src/registry/version.ts'
import { waive } from '../../src/registry/waive.ts'
import { postgresVersions, type TestDatabase, testDatabase, uniqueName } from '../support/services.ts'
import { allocate, applyShop, DATASET, definition, flipped, gate, judge, move, open, seal } from './shop.ts'

describe.each(postgresVersions)('PostgreSQL %s: the roles', (postgres) => {
  let database: TestDatabase
  let pools: pg.Pool[]
  let logins: string[]

  beforeEach(async () => {
    database = await testDatabase({ version: postgres })
    pools = []
    logins = []
    await database.pool.query(
      'create schema "Odd Shop"; create table "Odd Shop"."Products" (id int); create table products (id int)',
    )
    const sql = await grantsSql(database.pool, { tables: ['"Odd Shop"."Products"', 'public.products', 'products'] })
    await database.pool.query(sql)
    await database.pool.query(sql)
    await applyShop(database.pool)
  })

  afterEach(async () => {
    for (const pool of pools) await pool.end()
    for (const login of logins) await database.pool.query(`drop role ${login}`)
    await database.drop()
  })

  async function loggedInAs(role: string): Promise<pg.Pool> {
    const login = `login_${uniqueName()}`
    const password = uniqueName()
    await database.pool.query(`create role ${login} login password '${password}' in role ${role}`)
    logins.push(login)
    const url = new URL(database.url)
    url.username = login
    url.password = password
    const pool = await connectRegistry(url.href)
    pools.push(pool)
    return pool
  }

  it('are all that a worker needs; each one that is taken away is missed', async () => {
    const worker = await loggedInAs('snapflip_worker')
    const tables = ['"Odd Shop"."Products"', 'products', 'public.nope']
    expect((await lackingGrants(worker, { tables })).lacking).toEqual([])
    for (const [taken, missed] of [
      ['delete on snapflip.changelog', 'delete on snapflip.changelog'],
      ['update on snapflip.flip_intents', 'update on snapflip.flip_intents'],
      ['select on snapflip.history', 'select on snapflip.history'],
      ['select on "Odd Shop"."Products"', 'select on "Odd Shop"."Products"'],
      ['update (epoch_registry) on snapflip.datasets', 'update (epoch_registry) on snapflip.datasets'],
    ] as const) {
      await database.pool.query(`revoke ${taken} from snapflip_worker`)
      expect((await lackingGrants(worker, { tables })).lacking).toContain(missed)
    }
    expect((await lackingGrants(worker, { tables })).lacking).toHaveLength(5)
  })

  it('let the worker take every step of refreshes, rollbacks and retirement', async () => {
    const worker = await loggedInAs('snapflip_worker')
    expect(await migrationsPending(worker)).toEqual([])
    const v1 = await flipped(worker, null)
    const v2 = await flipped(worker, v1)
    await move(worker, { kind: 'rollback', from: v2, to: v1 })
    const v3 = await flipped(worker, v1)
    await flipped(worker, v3)
    await retire(worker, { dataset: DATASET, tag: v1, why: 'old' })
    await swept(worker, { dataset: DATASET, tag: v1 })
    await hold(worker, { dataset: DATASET, by: 'ana', reason: 'wait' })
    await resume(worker, { dataset: DATASET, by: 'ana', reason: 'go' })
    await status(worker, [DATASET])
    await journalledGenerations(worker, { dataset: DATASET, store: 'hot', generations: [] })
    await verifyHistory(worker)
    await worker.query('select from "Odd Shop"."Products", products')
  })

  it('let a person waive, as themselves and by the function alone', async () => {
    const worker = await loggedInAs('snapflip_worker')
    const refreshId = await open(worker)
    const { tag } = await allocate(worker, refreshId)
    await sealVersion(worker, seal(tag))
    await judge(worker, refreshId, tag, [gate('reject', 'drift')])
    const until = new Date(Date.now() + 3_600_000)
    const { by } = await waive(worker, { dataset: DATASET, tag, gate: 'drift', until, reason: 'seen' })
    expect(logins).toContain(by)
    await expect(worker.query('update snapflip.waivers set until = now()')).rejects.toThrow('permission denied')
  })

  it('let the worker prune, and note how far', async () => {
    const worker = await loggedInAs('snapflip_worker')
    const id = randomUUID()
    await database.pool.query(
      `insert into snapflip.watermarks (id, snapshot, xid, nonce, system, at, kind, facts)
       select $1, pg_current_snapshot(), pg_current_xact_id(), decode(repeat('00', 16), 'hex'), 'a test', now(), 'version', '[]'`,
      [id],
    )
    const client = await worker.connect()
    try {
      for (let n = 0; n < 2; n++) await prune(client, [id], new AbortController().signal, 0)
    } finally {
      client.release()
    }
    expect((await database.pool.query('select from snapflip.compacted')).rowCount).toBe(1)
  })

  it('let the worker raise alerts and record what became of them', async () => {
    const worker = await loggedInAs('snapflip_worker')
    const alert = {
      id: randomUUID(),
      kind: 'STORE_REBOUND' as const,
      dataset: DATASET,
      version: null,
      incident: 'x',
      actor: null,
    }
    const rest = { summary: '', evidence: {}, runbook: '', sinks: ['pager'], delivered: [] }
    expect(await raiseAlert(worker, { ...alert, ...rest })).toMatchObject({ isNew: true })
    expect(await raiseAlert(worker, { ...alert, ...rest, id: randomUUID() })).toMatchObject({ isNew: false })
    expect(await claimDeliveries(worker, { limit: 1, claimMs: 1 })).toMatchObject([
      { sink: 'pager', alert: { id: alert.id } },
    ])
    await settleDelivery(worker, { alert: alert.id, sink: 'pager', result: 'refused', found: '401' })
    expect(await undeliveredAlerts(worker)).toMatchObject([{ outcome: 'refused', found: '401' }])
    await reopenDeliveries(worker)
    expect(await undeliveredAlerts(worker)).toMatchObject([{ outcome: null }])
  })

  it('let the worker neither rewrite what happened nor write to a source nor change a definition', async () => {
    const worker = await loggedInAs('snapflip_worker')
    await flipped(worker, null)
    for (const statement of [
      'insert into snapflip.history select * from snapflip.history',
      "update snapflip.history set actor = 'x'",
      'delete from snapflip.history',
      'truncate snapflip.history',
      'update snapflip.history_head set seq = seq + 1',
      'delete from snapflip.index_versions',
      'delete from snapflip.flip_intents',
      'delete from snapflip.refresh_runs',
      'delete from snapflip.dataset_holds',
      'delete from snapflip.quarantines',
      "update snapflip.definitions set body = '{}'",
      "insert into snapflip.changelog (relid, op) values (1, 't')",
      'insert into products values (1)',
      'alter table snapflip.history disable trigger all',
      'create table snapflip.mine ()',
    ]) {
      await expect(worker.query(statement), statement).rejects.toMatchObject({ code: '42501' })
    }
    const apply = applyDefinition(worker, { dataset: DATASET, definition: definition('public.x') })
    await expect(apply).rejects.toMatchObject({
      code: 'PRIVILEGE_MISSING',
      retryable: false,
      message: expect.stringContaining('doctor --grants'),
    })
  })

  it('let capture apply a definition, and nothing that readers see', async () => {
    const capture = await loggedInAs('snapflip_capture')
    const number = await applyDefinition(capture, { dataset: DATASET, definition: definition('public.x') })
    expect(number).toEqual({ number: 2, changed: true })
    expect(await applyDefinition(capture, { dataset: 'new', definition: definition() })).toMatchObject({
      changed: true,
    })
    await capture.query(`insert into snapflip.captures (relid, name, members) values (1, 'x', '{}')`)
    await capture.query('delete from snapflip.captures')
    await capture.query('delete from snapflip.changelog')
    await expect(flipped(capture, null)).rejects.toMatchObject({ code: 'PRIVILEGE_MISSING' })
    await expect(capture.query('select from products')).rejects.toMatchObject({ code: '42501' })
  })

  it('let apply declare further stores, and the worker and people bring them up', async () => {
    const capture = await loggedInAs('snapflip_capture')
    const worker = await loggedInAs('snapflip_worker')
    const operator = await loggedInAs('snapflip_operator')
    const tag = await flipped(database.pool, null)
    const first = 'redis://hot'
    await applyStore(capture, { dataset: DATASET, url: first, by: null, holds: async () => true })
    const archive = { dataset: DATASET, name: 'archive', url: 'file:///archive' }
    const stores = [{ name: 'archive', url: archive.url }]
    await applyFurtherStores(capture, { dataset: DATASET, stores, by: null })
    const [manifest, copied] = ['a'.repeat(64), { tag, generation: 'b'.repeat(32), from: first }]
    await recordCopy(worker, { ...archive, ...copied, manifest })
    for (const db of [worker, operator]) {
      await recordDegraded(db, { ...archive, why: 'it does not answer' })
      await recordFollowed(db, { ...archive, flipId: null, tag, actor: null })
      const { digest } = await version(database.pool, DATASET, tag)
      const restored = { dataset: DATASET, tag, digest: digest as string, url: first, from: archive.url }
      const sha256 = db === worker ? 'c'.repeat(64) : 'd'.repeat(64)
      await restoreVersion(db, { ...restored, manifest: sha256, generation: copied.generation })
    }
    const holds = async ({ manifestSha256 }: { manifestSha256: string }) => manifestSha256 === manifest
    await applyStore(capture, { dataset: DATASET, url: archive.url, by: null, holds })
    expect(await version(database.pool, DATASET, tag)).toMatchObject({ manifestSha256: manifest })
    expect(await copies(worker, { dataset: DATASET, url: first })).toMatchObject(new Map([[tag, { tag }]]))
    await forgetCopies(operator, { dataset: DATASET, url: first, tags: [tag], why: 'lost' })
    const entries = await historyEntries(database.pool, { dataset: DATASET })
    const kinds = new Set(entries.map(({ kind }) => kind))
    for (const kind of ['stores.applied', 'version.copied', 'store.degraded', 'store.followed', 'version.restored'])
      expect(kinds).toContain(kind)
    expect(kinds).toContain('copy.gone')
  })

  it('let a viewer read what is documented for reports, and nothing else', async () => {
    const viewer = await loggedInAs('snapflip_viewer')
    await flipped(database.pool, null)
    for (const view of VIEWER_READS) await viewer.query(`select * from snapflip.${view}`)
    expect((await viewer.query('select tag from snapflip.versions')).rowCount).toBe(1)
    for (const statement of [
      'select from snapflip.changelog',
      'select from snapflip.events',
      'select from snapflip.definitions',
      'select from snapflip.refresh_runs',
      'select from snapflip.index_versions',
      'select from snapflip.gate_verdicts',
      'select from snapflip.approval_requests',
      'select from snapflip.flip_intents',
      'select from snapflip.dataset_holds',
      'select from products',
      "update snapflip.dataset_holds set reason = 'x'",
      'delete from snapflip.gate_verdicts',
      `select snapflip.record('${DATASET}', 'x', 'hold', null, '{}')`,
    ])
      await expect(viewer.query(statement), statement).rejects.toMatchObject({ code: '42501' })
  })

  it('put the login into the history, not the owner of the function that writes it', async () => {
    const worker = await loggedInAs('snapflip_worker')
    await recordEvent(worker, { dataset: DATASET, actor: null, kind: 'hold', detail: { reason: 'x' } })
    expect(await historyEntries(worker, { limit: 1 })).toMatchObject([{ actor: logins[0], kind: 'hold' }])
  })

  it('are not granted on a table that is not there', async () => {
    const missing = grantsSql(database.pool, { tables: ['"products; drop table products"'] })
    await expect(missing).rejects.toMatchObject({ code: 'DEFINITION_INVALID' })
    await expect(grantsSql(database.pool, { tables: ['public.nothing'] })).rejects.toMatchObject({
      code: 'DEFINITION_INVALID',
    })
  })
})
