import pg from 'pg'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { HISTORY_KINDS, isKindOrGroup } from '../../src/core/history-kinds.ts'
import { type HistoryEntry, historyEntries } from '../../src/registry/history-entries.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { EACH_KIND } from './each-kind.ts'
import { applyShop, DATASET } from './shop.ts'

/** Only the entry says so. */
const NOTHING_ELSE = [
  ...['capture.attached', 'capture.removed', 'refresh.skipped', 'action.refused', 'anchor.accepted'],
  ...['refresh.cancelled', 'drill.cancelled', 'schedule.paused', 'schedule.unpaused'],
]
/** Somebody's act each time. */
const EACH_TIME = [...NOTHING_ELSE, 'capture.detached', 'gates.judged', 'gate.waived']
/** What is written with it, in order. */
const ALSO: Record<string, string[]> = {
  'rollback.absorbed': ['rollback.absorbed', 'rollback.confirmed'],
}

describe.each(postgresVersions)('PostgreSQL %s: the history', (postgres) => {
  let database: TestDatabase
  let client: pg.Client

  beforeAll(async () => {
    database = await testDatabase({ version: postgres })
    return () => database.drop()
  })
  // One database for all of them: each is taken back with its transaction.
  beforeEach(async () => {
    client = new pg.Client({ connectionString: database.url })
    await client.connect()
    await client.query('begin')
    await applyShop(client)
  })
  afterEach(() => client.end())

  it.each(Object.entries(EACH_KIND))(
    'has one entry for %s, written with the change: neither without the other, none the second time',
    async (kind, prepare) => {
      const act = await prepare(client)
      const before = await everything()

      await client.query('savepoint before')
      await act(client)
      await client.query('rollback to savepoint before')
      expect(await everything()).toEqual(before)

      await act(client)
      const after = await everything()
      if (!NOTHING_ELSE.includes(kind)) expect(after.changes).not.toEqual(before.changes)
      const written = await historyEntries(client, { limit: after.entries - before.entries })
      expect(written.map((entry) => entry.kind.replace(/^alert\..*/, 'alert.*')).reverse()).toEqual(
        ALSO[kind] ?? [kind],
      )
      expect(written.every((entry) => entry.dataset === DATASET)).toBe(true)
      for (const entry of written) expect(otherThanDeclared(entry)).toEqual([])

      await act(client)
      const again = await everything()
      if (EACH_TIME.includes(kind)) expect(again.entries).toBeGreaterThan(after.entries)
      else expect(again).toEqual(after)
      expect((await verifyHistory(client)).entries).toBe(again.entries)
    },
  )

  it('has no kind that SQL writes and nobody declared', async () => {
    const { rows } = await client.query<{ body: string }>(
      `select prosrc as body from pg_proc where pronamespace = 'snapflip'::regnamespace and prosrc like '%snapflip.append_entry(%'`,
    )
    const written = rows.flatMap(({ body }) =>
      [...body.matchAll(/snapflip\.append_entry\([^,]+,[^,]+, '([a-z.]+)'/g)].map(([, kind = '']) => kind),
    )
    expect(written.length).toBeGreaterThan(6)
    for (const kind of written) expect(kind in HISTORY_KINDS || isKindOrGroup(kind.replace(/\.$/, '')), kind).toBe(true)
  })

  /** All rows of the registry but the history, and how many entries that has. An alert that is raised again is counted: that is all. */
  async function everything(): Promise<{ changes: unknown[]; entries: number }> {
    const tables =
      'datasets definitions refresh_runs index_versions builds gate_verdicts flip_intents ruled_out_flips dataset_holds quarantines approval_requests canaries waivers pins drills further_stores copies'
    const each = tables.split(' ').map((table) => `select '${table}' as of, t::text as row from snapflip.${table} as t`)
    const { rows: changes } = await client.query(
      `${each.join(' union all ')} union all select 'alerts', id::text from snapflip.alerts order by 1, 2`,
    )
    const { rows } = await client.query<{ entries: number }>(
      'select count(*)::integer as entries from snapflip.history',
    )
    return { changes, entries: rows[0]?.entries ?? 0 }
  }
})

/** Fields of a detail that the list of kinds lacks, and those that it has and the detail lacks. */
function otherThanDeclared({ kind, detail }: HistoryEntry): string[] {
  const declared = HISTORY_KINDS[kind as keyof typeof HISTORY_KINDS] ?? HISTORY_KINDS['alert.*']
  const fields: readonly string[] = declared.detail
  const missing = fields.filter((name) => !name.endsWith('?') && !(name in detail))
  const more = Object.keys(detail).filter((name) => !fields.includes(name) && !fields.includes(`${name}?`))
  return [...missing.map((name) => `${kind} without ${name}`), ...more.map((name) => `${kind} with ${name}`)]
}
