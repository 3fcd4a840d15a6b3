import type pg from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { isSnapflipError } from '../../src/core/errors.ts'
import { acceptAnchor } from '../../src/registry/accept-anchor.ts'
import type { KnownHead } from '../../src/registry/accepted-anchors.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { recordEvent } from '../../src/registry/record.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { applyShop, definition, flipped, gate, judge, passed } from './shop.ts'

describe.each(postgresVersions)('PostgreSQL %s: the history', (postgres) => {
  let database: TestDatabase
  let pool: pg.Pool

  beforeEach(async () => {
    database = await testDatabase({ version: postgres })
    pool = database.pool
    return database.drop
  })

  it('has an entry for each run of the gates, with the heaviest verdict', async () => {
    await applyShop(pool)
    const { refreshId, tag } = await passed(pool)
    await judge(pool, refreshId, tag, [gate('warn'), gate('hold', 'drift'), gate('pass', 'rowCounts')])
    const entries = await historyEntries(pool, { kind: 'gates', version: tag })
    expect(entries.map((entry) => entry.detail.verdict)).toEqual(['hold', 'pass'])
    expect(JSON.stringify(entries)).not.toContain('sampleKeys')
  })

  it('is found by dataset, kind, version and time, newest first', async () => {
    await applyShop(pool)
    const v1 = await flipped(pool, null)
    await applyDefinition(pool, { dataset: 'other', definition: definition() })
    expect((await historyEntries(pool, { kind: 'flip' })).map((entry) => entry.kind)).toEqual([
      'flip.confirmed',
      'flip.intended',
    ])
    expect(await historyEntries(pool, { dataset: 'other' })).toMatchObject([
      { actor: decodeURIComponent(new URL(database.url).username), kind: 'definition.applied' },
    ])
    expect(new Set((await historyEntries(pool, { version: v1 })).map((entry) => entry.version))).toEqual(new Set([v1]))
    expect(await historyEntries(pool, { since: new Date(Date.now() + 60_000) })).toEqual([])
    expect(await historyEntries(pool, { limit: 2 })).toHaveLength(2)
  })

  it('is numbered without a gap by 30 writers at once, some of whom roll back', async () => {
    await Promise.all(
      Array.from({ length: 30 }, async (_, index) => {
        const client = await pool.connect()
        try {
          await client.query('begin')
          await recordEvent(client, { dataset: null, actor: `writer ${index}`, kind: 'hold' })
          await client.query(index % 3 === 0 ? 'rollback' : 'commit')
        } finally {
          client.release()
        }
      }),
    )
    expect(await verifyHistory(pool)).toMatchObject({ entries: 20 })
  })

  it('verifies whatever its fields hold, and when it is empty', async () => {
    expect(await verifyHistory(pool)).toEqual({ entries: 0, hash: '0'.repeat(64), accepted: [] })
    await recordEvent(pool, { dataset: null, actor: '', kind: 'hold', version: null, detail: {} })
    await recordEvent(pool, {
      dataset: 'läden 🛒',
      actor: 'temporal:1@host\n',
      kind: 'hold',
      detail: { text: '日本\n"quoted"\\', n: 1.5e-7, big: 12345678901234, nested: { b: [1, null, true], a: '' } },
    })
    const session = await pool.connect()
    try {
      await session.query("set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set bytea_output = 'escape'")
      await recordEvent(session, { dataset: null, actor: null, kind: 'hold' })
      expect(await verifyHistory(session)).toMatchObject({ entries: 3 })
    } finally {
      session.release(true)
    }
    const head = await verifyHistory(pool)
    expect(await verifyHistory(pool, { anchors: [head] })).toEqual(head)
  })

  it('reads on from page to page', async () => {
    await pool.query(`select snapflip.record(null, 'x', 'hold', null, '{}') from generate_series(1, 4001)`)
    const { hash } = await verifyHistory(pool)
    await tamper(`delete from snapflip.history where seq = 2001`)
    await expect(verifyHistory(pool)).rejects.toMatchObject({ code: 'HISTORY_BROKEN', details: { seq: 2001 } })
    expect(hash).toMatch(/^[0-9a-f]{64}$/)
  })

  it.each([
    "update snapflip.history set actor = 'nobody' where seq = 2",
    'delete from snapflip.history where seq = 2',
    'truncate snapflip.history',
    'update snapflip.history_head set seq = seq - 1',
    'delete from snapflip.history_head',
    'truncate snapflip.history_head',
  ])('refuses its owner %s, as a replica too', async (statement) => {
    await entries(3)
    const client = await pool.connect()
    try {
      await expect(client.query(statement)).rejects.toThrow(/append-only/)
      await client.query('set session_replication_role = replica')
      await expect(client.query(statement)).rejects.toThrow(/append-only/)
    } finally {
      client.release(true)
    }
    expect(await verifyHistory(pool)).toMatchObject({ entries: 3 })
  })

  it.each([
    ['an edited actor', "update snapflip.history set actor = 'nobody' where seq = 3", 3],
    ['an edited detail', `update snapflip.history set detail = '{"n": 99}' where seq = 4`, 4],
    ['an edited time', "update snapflip.history set at = at + interval '1 microsecond' where seq = 1", 1],
    ['null for the empty text', 'update snapflip.history set version = null where seq = 2', 2],
    [
      'a text moved from one field to the next',
      "update snapflip.history set dataset = 'sho', actor = 'pana' where seq = 2",
      2,
    ],
    ['an edit with its own hash renewed', RENEWED('3'), 4],
    ['a removed entry', 'delete from snapflip.history where seq = 3', 3],
    ['the first entry removed', 'delete from snapflip.history where seq = 1', 1],
    [
      'a removed entry, the others renumbered',
      'delete from snapflip.history where seq = 3; update snapflip.history set seq = seq - 1 where seq > 3',
      3,
    ],
    [
      'two entries that changed places',
      `update snapflip.history set seq = 100 where seq = 2; update snapflip.history set seq = 2 where seq = 3;
       update snapflip.history set seq = 3 where seq = 100`,
      2,
    ],
    ['a cut tail', 'delete from snapflip.history where seq > 3', 4],
    [
      'an entry added past the head',
      'insert into snapflip.history select 6, at, dataset, actor, kind, version, detail, hash, hash from snapflip.history where seq = 5',
      6,
    ],
  ])('shows %s', async (_, statement, seq) => {
    await entries(5)
    await verifyHistory(pool)
    await tamper(statement)
    await expect(verifyHistory(pool)).rejects.toMatchObject({ code: 'HISTORY_BROKEN', details: { seq } })
  })

  it('shows a tail cut together with its head to whoever kept the head elsewhere', async () => {
    await entries(5)
    const anchor = await verifyHistory(pool)
    await tamper(`delete from snapflip.history where seq > 3;
      update snapflip.history_head set seq = 3, hash = (select hash from snapflip.history where seq = 3)`)
    await verifyHistory(pool)
    await expect(verifyHistory(pool, { anchors: [anchor] })).rejects.toMatchObject({
      code: 'HISTORY_BROKEN',
      details: { seq: 4 },
    })
    await entries(2)
    await expect(verifyHistory(pool, { anchors: [anchor] })).rejects.toMatchObject({
      code: 'HISTORY_BROKEN',
      details: { seq: 5 },
    })
  })

  it('compares the entry by which a person accepted an anchor, and that anchor no more', async () => {
    await entries(5)
    const { entries: seq, hash } = await verifyHistory(pool)
    const lost = { dataset: 'shop', anchor: { seq, hash }, reason: 'restored' }
    await expect(acceptAnchor(pool, lost)).rejects.toMatchObject({ code: 'USAGE' })
    await tamper(`delete from snapflip.history where seq > 3;
      update snapflip.history_head set seq = 3, hash = (select hash from snapflip.history where seq = 3)`)
    const acceptedBy = await acceptAnchor(pool, lost)
    const other = await acceptAnchor(pool, { ...lost, anchor: { seq, hash: 'a1'.repeat(32) } })
    await entries(2)
    const anchor = { entries: seq, hash, acceptedBy }
    const verified = await verifyHistory(pool, { anchors: [anchor] })
    expect(verified.accepted).toMatchObject([{ seq, hash, entry: acceptedBy.seq, reason: 'restored' }])
    const brokenAt = (...anchors: KnownHead[]) =>
      verifyHistory(pool, { anchors }).then(
        () => null,
        (error: unknown) => isSnapflipError(error, 'HISTORY_BROKEN') && error.details.seq,
      )
    expect(await brokenAt({ entries: seq, hash })).toBe(seq)
    expect(await brokenAt(anchor, { entries: seq, hash: 'b2'.repeat(32) })).toBe(seq)
    expect(await brokenAt({ ...anchor, acceptedBy: other })).toBe(seq)
    const whole = { entries: acceptedBy.seq, hash: acceptedBy.hash, acceptedBy: other }
    expect(await brokenAt(whole, { entries: seq, hash: 'a1'.repeat(32) })).toBe(seq)
    expect(await brokenAt({ ...anchor, acceptedBy: { ...acceptedBy, hash: other.hash } })).toBe(acceptedBy.seq)
  })

  async function entries(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      await recordEvent(pool, { dataset: 'shop', actor: 'ana', kind: 'hold', version: '', detail: { n } })
    }
  }

  /** What a superuser can do who means to. */
  async function tamper(statement: string): Promise<void> {
    await pool.query(`
      begin;
      alter table snapflip.history disable trigger all;
      alter table snapflip.history_head disable trigger all;
      ${statement};
      alter table snapflip.history enable always trigger append_only;
      alter table snapflip.history enable always trigger append_only_truncate;
      alter table snapflip.history_head enable always trigger head_moves_by_one;
      alter table snapflip.history_head enable always trigger head_stays;
      alter table snapflip.history_head enable always trigger head_stays_truncate;
      commit`)
  }
})

function RENEWED(seq: string): string {
  return `update snapflip.history set actor = 'nobody', hash = sha256(convert_to(
    snapflip.history_text(seq, at, dataset, 'nobody', kind, version, detail, prev_hash), 'UTF8')) where seq = ${seq}`
}
