import { expect, it, onTestFinished } from 'vitest'
import { postgresFailure } from '../../src/registry/postgres-failure.ts'
import { testDatabase } from '../support/services.ts'

it.each([
  { sql: "insert into snapflip.definitions values ('nobody', 1, '{}', repeat('0', 64), now(), 'x')", code: 'INTERNAL' },
  { sql: "insert into snapflip.datasets (name, epoch_registry) values ('a', -1)", code: 'INTERNAL' },
  { sql: 'selec 1', code: 'INTERNAL' },
  { sql: "select 'x' from pg_sleep(1)", code: 'POSTGRES_FAILED' },
])('a refused statement is $code, which tells whether it may be tried again: $sql', async ({ sql, code }) => {
  const database = await testDatabase({ version: '18' })
  onTestFinished(() => database.drop())
  const client = await database.pool.connect()
  try {
    await client.query("set statement_timeout = '100ms'")
    const failure = await client.query(sql).then(() => null, postgresFailure)
    expect(failure).toMatchObject({ code, retryable: code === 'POSTGRES_FAILED' })
  } finally {
    client.release(true)
  }
})
