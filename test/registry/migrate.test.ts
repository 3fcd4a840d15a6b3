import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { connectRegistry } from '../../src/registry/connect.ts'
import { migrate, migrationsPending, requireMigrated } from '../../src/registry/migrate.ts'
import { openRefreshOf } from '../../src/registry/open-refresh-of.ts'
import { transaction } from '../../src/registry/transaction.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { postgresVersions, testDatabase, uniqueName } from '../support/services.ts'
import { applyShop, close, flipped, open } from './shop.ts'

/** Migrations that databases out there have run. */
const RELEASED = ['0001_registry', '0002_changelog', '0003_alerts']

/** What such a database may have in the tables that later migrations change: a version that readers are on, another that is being built, a hold. */
const ROWS_OF_THEN = `
  insert into snapflip.datasets (name, epoch_registry) values ('shop', 1);
  insert into snapflip.refreshes (id, dataset, workflow_id, run_id, requested_by, "full", closed_at, status, tag)
  values ('0196e1f0-0000-7000-8000-000000000001', 'shop', 'w', 'r', 'ana', false, now(), 'FLIPPED', 'v20260517-01'),
         ('0196e1f0-0000-7000-8000-000000000002', 'shop', 'w', 'r', 'ana', false, null, null, null);
  insert into snapflip.versions (dataset, tag, ordinal, day, state, refresh_id, digest, manifest_sha256, generation, watermark, sealed_at)
  values ('shop', 'v20260517-01', 1, '2026-05-17', 'active', '0196e1f0-0000-7000-8000-000000000001', repeat('a', 64), repeat('b', 64), repeat('c', 32), '{}', now()),
         ('shop', 'v20260517-02', 2, '2026-05-17', 'building', '0196e1f0-0000-7000-8000-000000000002', null, null, null, null, null);
  insert into snapflip.gate_results (refresh_id, dataset, tag, position, gate, verdict, summary, actual, limit_, sample_keys)
  values ('0196e1f0-0000-7000-8000-000000000001', 'shop', 'v20260517-01', 1, 'integrity', 'pass', 'whole', '{}', '{}', '{}');
  insert into snapflip.flips (id, dataset, kind, to_tag, epoch, refresh_id, actor, outcome, settled_at)
  values ('0196e1f0-0000-7000-8000-000000000003', 'shop', 'flip', 'v20260517-01', 1, '0196e1f0-0000-7000-8000-000000000001', 'ana', 'confirmed', now());
  insert into snapflip.holds (dataset, by, reason, since, lifted_at, lifted_by) values ('shop', 'ana', 'stocktaking', now(), now(), 'ana');
  select snapflip.record('shop', 'ana', 'hold', null, '{"reason": "stocktaking"}')`

describe.each(postgresVersions)('PostgreSQL %s: migrating', (version) => {
  it('once, twice and by five at once runs each migration once', async () => {
    const { url, pool } = await testDatabase({ version, migrated: false })
    const pending = await migrationsPending(pool)
    expect(pending[0]).toBe('0001_registry')
    const runs = await Promise.all(Array.from({ length: 5 }, () => migrate(url)))
    expect(runs.flat()).toEqual(pending)
    expect(await migrate(url)).toEqual([])
    await requireMigrated(pool)
    const { rows } = await pool.query('select name from snapflip.migrations order by id')
    expect(rows.map((row) => row.name)).toEqual(pending)
  })

  it('brings the rows of a released registry along: reports see them, and refreshes go on from them', async () => {
    const { url, pool } = await testDatabase({ version, migrated: false })
    for (const name of RELEASED) {
      await pool.query(await readFile(new URL(`../../schemas/migrations/${name}.sql`, import.meta.url), 'utf8'))
    }
    await pool.query(`${ROWS_OF_THEN};
      create table snapflip.migrations (id serial primary key, name varchar(255) not null, run_on timestamp not null);
      insert into snapflip.migrations (name, run_on) select unnest('{${RELEASED}}'::text[]), now()`)
    const pending = await migrationsPending(pool)
    expect(await migrate(url)).toEqual(pending)
    for (const [view, rows] of Object.entries({ refreshes: 2, versions: 2, gate_results: 1, flips: 1, holds: 1 })) {
      expect((await pool.query(`select from snapflip.${view} where dataset = 'shop'`)).rowCount, view).toBe(rows)
    }
    await applyShop(pool)
    await expect(open(pool)).rejects.toMatchObject({ code: 'REFRESH_RUNNING' })
    await close(pool, '0196e1f0-0000-7000-8000-000000000002', 'CANCELLED')
    const tag = await flipped(pool, 'v20260517-01')
    const { rows } = await pool.query(
      `select tag, ordinal, epoch::integer from snapflip.versions join snapflip.flips using (dataset) where state = 'active' and to_tag = tag`,
    )
    expect(rows).toEqual([{ tag, ordinal: 3, epoch: 2 }])
    expect((await verifyHistory(pool)).entries).toBeGreaterThan(1)
  })

  it('that was not done yet is named, with what to do', async () => {
    const { pool } = await testDatabase({ version, migrated: false })
    const missing = { code: 'REGISTRY_NOT_MIGRATED', message: expect.stringContaining('snapflip migrate') }
    await expect(requireMigrated(pool)).rejects.toMatchObject(missing)
    await expect(openRefreshOf(pool, 'shop')).rejects.toMatchObject(missing)
  })

  it('leaves no table whose rows a publication of all tables would keep from being deleted', async () => {
    const { pool } = await testDatabase({ version })
    const { rows } = await pool.query(
      `select relname from pg_class where relnamespace = 'snapflip'::regnamespace and relkind = 'r' and relreplident = 'd'
          and not exists (select from pg_index where indrelid = pg_class.oid and indisprimary)`,
    )
    expect(rows).toEqual([])
  })

  it('leaves a search_path, and tables of other schemas, alone', async () => {
    const { url, pool } = await testDatabase({ version, migrated: false })
    await pool.query('create table versions (mine int)')
    await migrate(url)
    const { rows } = await pool.query("select table_name from information_schema.tables where table_schema = 'public'")
    expect(rows).toEqual([{ table_name: 'versions' }])
  })
})

describe('connecting', () => {
  it('is seen in pg_stat_activity as snapflip, and survives a broken idle connection', async () => {
    const { url, pool: admin } = await testDatabase()
    const pool = await connectRegistry({ connectionString: url, max: 1 })
    try {
      const { rows } = await pool.query(
        `select application_name, pg_backend_pid() as pid from pg_stat_activity where pid = pg_backend_pid()`,
      )
      expect(rows[0].application_name).toBe('snapflip')
      const removed = new Promise((resolve) => pool.once('remove', resolve))
      await admin.query('select pg_terminate_backend($1)', [rows[0].pid])
      await removed
      await pool.query('select 1')
    } finally {
      await pool.end()
    }
  })

  it('to a server that is not there says where, and keeps the password', async () => {
    const free = createServer().listen(0, '127.0.0.1')
    await once(free, 'listening')
    const { port } = free.address() as { port: number }
    free.close()
    await once(free, 'close')
    const password = uniqueName()
    const error = await connectRegistry(`postgres://ana:${password}@127.0.0.1:${port}/shop`).catch(
      (reason: unknown) => reason,
    )
    expect(error).toMatchObject({ code: 'POSTGRES_UNREACHABLE', details: { host: '127.0.0.1', port } })
    expect((error as Error).message).toContain(`127.0.0.1:${port}`)
    expect(JSON.stringify([String(error), (error as { details: unknown }).details])).not.toContain(password)
  })

  it.each([
    ['a wrong password', (url: URL) => Object.assign(url, { password: 'wrong' })],
    ['a database that is not there', (url: URL) => Object.assign(url, { pathname: '/nothing' })],
  ])('with %s says so', async (_, spoil) => {
    const { url } = await testDatabase()
    const refused = connectRegistry(spoil(new URL(url)).href)
    await expect(refused).rejects.toMatchObject({
      code: 'POSTGRES_UNREACHABLE',
      message: expect.stringMatching(/authentication|does not exist/),
    })
  })

  it('to an older server or a standby is refused', async () => {
    const { url, pool } = await testDatabase()
    // A function found before pg_catalog's stands in for servers that the tests do not have.
    await pool.query(`
      create schema older; create schema standby;
      create function older.current_setting(name text) returns text language sql
        as $$ select case name when 'server_version_num' then '140011' when 'server_version' then '14.11' end $$;
      create function standby.pg_is_in_recovery() returns boolean language sql as 'select true'`)
    const found = (schema: string) =>
      connectRegistry({ connectionString: url, options: `-c search_path=${schema},pg_catalog` })
    await expect(found('older')).rejects.toMatchObject({
      code: 'POSTGRES_UNSUPPORTED',
      message: expect.stringContaining('14.11'),
    })
    await expect(found('standby')).rejects.toMatchObject({
      code: 'POSTGRES_UNSUPPORTED',
      message: expect.stringContaining('standby'),
    })
  })
})

describe('a transaction', () => {
  it('whose process stops in the middle is ended by PostgreSQL, so that others go on', async () => {
    const { pool } = await testDatabase()
    const held = transaction(pool, async (client) => {
      await client.query('set local idle_in_transaction_session_timeout = 100')
      await client.query('select from snapflip.history_head for update')
      await once(client as never, 'end')
      await client.query('select 1')
    })
    await expect(held).rejects.toMatchObject({ code: 'POSTGRES_UNREACHABLE' })
    await pool.query('select from snapflip.history_head for update nowait')
  })

  it('bounds its waits, whatever the server says', async () => {
    const { pool } = await testDatabase()
    const settings = await transaction(pool, async (client) => {
      const { rows } = await client.query(
        `select current_setting('lock_timeout') as lock, current_setting('idle_in_transaction_session_timeout') as idle,
                current_setting('transaction_isolation') as isolation`,
      )
      return rows[0]
    })
    expect(settings).toEqual({ lock: '30s', idle: '10s', isolation: 'read committed' })
  })

  it('lets errors that are not PostgreSQL’s through as they are', async () => {
    const { pool } = await testDatabase()
    const fault = new TypeError('ours')
    await expect(transaction(pool, () => Promise.reject(fault))).rejects.toBe(fault)
  })
})
