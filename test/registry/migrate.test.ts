import { once } from 'node:events'
import { createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { connectRegistry } from '../../src/registry/connect.ts'
import { migrate, migrationsPending, requireMigrated } from '../../src/registry/migrate.ts'
import { openRefreshOf } from '../../src/registry/open-refresh-of.ts'
import { transaction } from '../../src/registry/transaction.ts'
import { postgresVersions, testDatabase, uniqueName } from '../support/services.ts'

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
