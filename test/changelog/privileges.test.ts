import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { grantsSql } from '../../src/registry/grants.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { resolve } from './fold.ts'

describe.each(postgresVersions)('a role on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let role: string
  let client: pg.Client
  beforeAll(async () => {
    database = await testDatabase({ version })
    role = `"Some ${database.name}"`
    await database.pool.query(`create table products (id int primary key, sku text);
      create function upper_sku(text) returns text language sql immutable as 'select upper($1)';
      revoke temporary on database ${database.name} from public; revoke execute on function upper_sku(text) from public;
      create role ${role} login password 'pw'`)
    await database.pool.query(await grantsSql(database.pool, { tables: ['public.products'] }))
  })
  beforeEach(async () => {
    const url = new URL(database.url)
    url.username = encodeURIComponent(role.slice(1, -1))
    url.password = 'pw'
    client = new pg.Client({ connectionString: url.href })
    await client.connect()
    return () => client.end()
  })
  afterAll(() => database.pool.query(`drop owned by ${role}; drop role ${role}`))

  const definition = { from: 'public.products', key: 'id', value: 'sku' }

  it('that may make no temporary view is told which grant is missing', async () => {
    await database.pool.query(
      `grant usage on schema snapflip, public to ${role}; grant select on public.products to ${role}`,
    )
    await expect(resolve(client, definition)).rejects.toMatchObject({
      code: 'PRIVILEGE_MISSING',
      message: expect.stringContaining(`grant temporary on database ${database.name} to ${role}`) as string,
    })
  })

  it('that may not execute a function of the definition is told which', async () => {
    await database.pool.query(`grant temporary on database ${database.name} to ${role}`)
    await expect(resolve(client, { ...definition, value: 'public.upper_sku(sku)' })).rejects.toMatchObject({
      code: 'PRIVILEGE_MISSING',
      message: expect.stringMatching(/permission denied for function upper_sku/) as string,
    })
    await database.pool.query(`revoke temporary on database ${database.name} from ${role}`)
  })

  it.each(['snapflip_worker', 'snapflip_capture'])(
    'with the printed grants of %s may check a definition',
    async (group) => {
      await database.pool.query(`grant ${group} to ${role}; grant select on public.products to ${role}`)
      expect(await resolve(client, definition)).toMatchObject({ kind: 'table' })
      await database.pool.query(`revoke ${group} from ${role}`)
    },
  )
})
