import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { datasetSchema } from '../../schemas/config.ts'
import { acceptAnchor } from '../../src/registry/accept-anchor.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { authorize, authorizeAs } from '../../src/registry/authorize.ts'
import { currentDefinition } from '../../src/registry/current-definition.ts'
import { grantsSql } from '../../src/registry/grants.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { recordEvent } from '../../src/registry/record.ts'
import { issueTicket, useTicket } from '../../src/registry/ticket.ts'
import { transaction } from '../../src/registry/transaction.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { type TestDatabase, testDatabase, uniqueName } from '../support/services.ts'
import { DATASET, definition } from './shop.ts'

describe('who may', () => {
  let database: TestDatabase
  const logins = { ana: `ana_${uniqueName()}`, bo: `bo_${uniqueName()}`, cy: `cy_${uniqueName()}` }
  const as = {} as Record<keyof typeof logins, pg.Pool>

  beforeAll(async () => {
    database = await testDatabase()
    await database.pool.query(await grantsSql(database.pool, { tables: [] }))
    for (const [name, login] of Object.entries(logins) as [keyof typeof logins, string][]) {
      await database.pool.query(`create role ${login} login password 'pw' in role snapflip_operator, snapflip_capture`)
      const url = new URL(database.url)
      url.username = login
      url.password = 'pw'
      as[name] = new pg.Pool({ connectionString: url.href })
    }
    await applyDefinition(as.ana, { dataset: DATASET, definition: policy({}) })
  })
  afterAll(async () => {
    for (const pool of Object.values(as)) await pool.end()
    for (const login of Object.values(logins)) await database.pool.query(`drop role ${login}`)
    await database.drop()
  })

  function policy(change: object) {
    return datasetSchema.parse({
      ...definition(),
      roles: { viewer: [logins.cy], operator: [logins.bo], admin: [logins.ana], approver: ['temporal:night'] },
      ...change,
    })
  }
  const last = async () => (await historyEntries(database.pool, { limit: 1 }))[0]

  it('everybody who may connect, where no roles are declared or the dataset is not known', async () => {
    expect(await authorize(as.cy, { dataset: 'nobodys', action: 'apply' })).toEqual({ actor: logins.cy })
    await applyDefinition(as.bo, { dataset: 'open', definition: definition() })
    expect(await authorize(as.cy, { dataset: 'open', action: 'release' })).toEqual({ actor: logins.cy })
  })

  it('an anchor is accepted by an admin, by the function alone', async () => {
    const anchor = { seq: 1, hash: 'a1'.repeat(32) }
    const accepted = { dataset: DATASET, anchor, reason: 'restored' }
    const asked = { dataset: DATASET, action: 'accept', reason: 'restored' } as const
    await expect(authorize(as.bo, asked)).rejects.toMatchObject({ code: 'FORBIDDEN' })
    expect(await last()).toMatchObject({ kind: 'action.refused', actor: logins.bo, detail: { action: 'accept' } })
    await expect(acceptAnchor(as.bo, accepted)).rejects.toThrow(/may not accept an anchor/)
    const by = { dataset: DATASET, actor: null, kind: 'anchor.accepted', detail: { ...anchor, reason: 'x' } } as const
    await expect(recordEvent(as.ana, by)).rejects.toThrow(/people write themselves/)
    const entry = await acceptAnchor(as.ana, accepted)
    expect(await last()).toMatchObject({ ...entry, kind: 'anchor.accepted', actor: logins.ana, detail: anchor })
  })

  it('whoever has the least role that the policy names, or a higher one', async () => {
    expect(await authorize(as.bo, { dataset: DATASET, action: 'hold' })).toEqual({ actor: logins.bo })
    expect(await authorize(as.ana, { dataset: DATASET, action: 'hold' })).toEqual({ actor: logins.ana })
    await expect(authorize(as.bo, { dataset: DATASET, action: 'resume' })).rejects.toMatchObject({ code: 'FORBIDDEN' })
    await expect(authorize(as.cy, { dataset: DATASET, action: 'hold' })).rejects.toMatchObject({ code: 'FORBIDDEN' })
  })

  it('and a refusal is told with what was needed, and stays in the history', async () => {
    const refused = authorize(as.bo, { dataset: DATASET, action: 'release', version: 'v20260518-01', reason: 'fine' })
    await expect(refused).rejects.toMatchObject({
      code: 'FORBIDDEN',
      exitCode: 17,
      message: expect.stringMatching(
        /Expected approver of shop for release, found bo_\w+ to be operator there \(policy 1\)/,
      ),
    })
    expect(await last()).toMatchObject({
      actor: logins.bo,
      kind: 'action.refused',
      version: 'v20260518-01',
      detail: { action: 'release', needed: 'approver', has: 'operator', policy: 1, reason: 'fine' },
    })
    await verifyHistory(database.pool)
  })

  it('is not asked in a transaction, which could take the entry of a refusal back', async () => {
    const asked = transaction(as.bo, (client) => authorize(client, { dataset: DATASET, action: 'resume' }))
    await expect(asked).rejects.toThrow(/outside a transaction/)
  })

  it('is not asked about another: that only a worker may', async () => {
    const forged = authorizeAs(as.cy, { dataset: DATASET, action: 'hold', actor: logins.ana })
    await expect(forged).rejects.toMatchObject({ code: 'PRIVILEGE_MISSING' })
  })

  it('a start from Temporal as its identity is named, or any', async () => {
    const unverified = { dataset: DATASET, action: 'refresh', actor: 'temporal:eve' } as const
    await expect(authorizeAs(database.pool, unverified)).rejects.toMatchObject({ code: 'FORBIDDEN' })
    expect(await last()).toMatchObject({ actor: 'temporal:eve', kind: 'action.refused' })
    await authorizeAs(database.pool, { ...unverified, actor: 'temporal:night' })
    await applyDefinition(as.ana, {
      dataset: 'ui',
      definition: policy({ roles: { admin: [logins.ana], operator: ['temporal:*'] } }),
    })
    await authorizeAs(database.pool, { ...unverified, dataset: 'ui' })
    // Not for a login, which is called as somebody calls themselves there.
    await expect(authorizeAs(database.pool, { ...unverified, dataset: 'ui', actor: 'eve' })).rejects.toThrow()
  })

  it('a ticket proves its login once, to one run, for what it was issued for', async () => {
    const request = { dataset: DATASET, reason: 'new prices' }
    const ticket = await issueTicket(as.bo, { dataset: DATASET, action: 'refresh', request })
    const use = { ticket, dataset: DATASET, action: 'refresh', request, runId: 'run-1' } as const
    expect(await useTicket(database.pool, { ...use, request: { ...request, full: true } })).toBe(null)
    expect(await useTicket(database.pool, { ...use, action: 'rollback' })).toBe(null)
    expect(await useTicket(database.pool, use)).toBe(logins.bo)
    expect(await useTicket(database.pool, use)).toBe(logins.bo)
    expect(await useTicket(database.pool, { ...use, runId: 'run-2' })).toBe(null)
    await expect(issueTicket(as.cy, { dataset: DATASET, action: 'refresh', request })).rejects.toThrow()
    await expect(as.cy.query('select * from snapflip.tickets')).rejects.toMatchObject({ code: '42501' })
  })

  it('what is in force decides who may apply the next; nobody is let in by the definition they bring', async () => {
    const mine = policy({ roles: { admin: [logins.bo] } })
    await expect(applyDefinition(as.bo, { dataset: DATASET, definition: mine })).rejects.toMatchObject({
      code: 'FORBIDDEN',
    })
    expect(await last()).toMatchObject({ actor: logins.bo, kind: 'action.refused', detail: { action: 'apply' } })
    expect(await currentDefinition(database.pool, DATASET)).toMatchObject({ number: 1, appliedBy: logins.ana })
    await expect(
      as.bo.query(`insert into snapflip.definitions values ('${DATASET}', 2, '{}', repeat('0', 64), now(), 'ana')`),
    ).rejects.toMatchObject({ code: '42501' })
  })

  it('a definition after which nobody who can log in could apply another is refused', async () => {
    const locked = policy({ roles: { admin: ['nobody_of_that_name'], operator: [logins.bo] } })
    await expect(applyDefinition(as.ana, { dataset: DATASET, definition: locked })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/found nobody_of_that_name, none of which can log in/),
    })
    expect(await currentDefinition(database.pool, DATASET)).toMatchObject({ number: 1 })
  })

  it('a role that does not exist, in a policy written by hand, lets nobody in: not as what they have, nor as what an action needs', async () => {
    const roles = { wizard: [logins.bo], approver: [logins.cy], admin: [logins.ana] }
    const body = JSON.stringify({ ...policy({}), roles, may: { hold: 'wizard' } })
    await database.pool.query(`insert into snapflip.datasets (name) values ('by hand')`)
    await database.pool.query(
      `insert into snapflip.definitions (dataset, number, body, digest, applied_by) values ('by hand', 1, $1, repeat('0', 64), 'x')`,
      [body],
    )
    const may = async (action: string, actor: string) =>
      (await database.pool.query('select * from snapflip.may($1, $2, $3)', ['by hand', action, actor])).rows[0]
    const denied = { allowed: false, policy: 1 }
    for (const [login, has] of [
      [logins.bo, null],
      [logins.ana, 'admin'],
    ] as const)
      expect(await may('hold', login)).toEqual({ ...denied, needed: 'wizard', has })
    // Not declared: an admin's.
    expect(await may('resume', logins.bo)).toEqual({ ...denied, needed: 'admin', has: null })
    expect(await may('resume', logins.cy)).toEqual({ ...denied, needed: 'admin', has: 'approver' })
    expect(await may('resume', logins.ana)).toMatchObject({ allowed: true })
    // Nor is one let in that would lock everybody out.
    const locked = JSON.stringify({ roles, may: { apply: 'wizard' } })
    const { rows } = await as.ana.query(`select outcome from snapflip.apply_definition('by hand', $1)`, [locked])
    expect(rows).toEqual([{ outcome: 'nobody' }])
  })

  it('whoever may not waive does not by the function either', async () => {
    const call = as.cy.query(
      `select snapflip.waive('${DATASET}', 'v20260518-01', 'drift', now() + interval '1 hour', 'x')`,
    )
    await expect(call).rejects.toMatchObject({ code: '42501', message: expect.stringContaining('may not waive') })
  })

  it('nobody but a worker speaks for another in the history', async () => {
    await recordEvent(as.bo, { dataset: DATASET, actor: logins.ana, kind: 'hold' })
    expect(await last()).toMatchObject({ actor: logins.bo, detail: { onBehalfOf: logins.ana } })
    await recordEvent(database.pool, { dataset: DATASET, actor: 'temporal:eve', kind: 'hold' })
    expect(await last()).toMatchObject({ actor: 'temporal:eve', detail: {} })
    await verifyHistory(database.pool)
  })
})
