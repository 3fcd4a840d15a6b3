import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { scanSource } from '../../src/changelog/scan.ts'
import { inWatermark } from '../../src/changelog/watermark.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import { connect, cut, type Fold, read, resolve } from './fold.ts'

describe.each(postgresVersions)('a materialized view on PostgreSQL %s', (version) => {
  let database: TestDatabase
  let client: Client
  let other: Client
  beforeAll(async () => {
    database = await testDatabase({ version })
    ;[client, other] = await Promise.all([connect(database), connect(database)])
    await client.query(`create table base (id int primary key); create materialized view kept as select id from base; create unique index on kept (id);
      create view seen as select id from kept; create view seen_again as select id from seen union all select id + 1000 from base`)
  })
  afterAll(() => Promise.all([client.end(), other.end()]))

  const definition = (from: string) => ({ from, key: 'id', value: 'id', capture: 'none' as const })

  // PostgreSQL puts the rows of a refresh in as if they had always been there: snapshots from before it see them.
  it.each(['kept', 'seen', 'seen_again'])(
    'that is refreshed between the watermark and the reading of %s is not read',
    async (from) => {
      const source = await resolve(client, definition(from))
      await other.query('truncate base; refresh materialized view kept')
      const reading = inWatermark(client, [source], 'version', async () => {
        await other.query('insert into base values (1); refresh materialized view kept')
        return read(scanSource(client, source))
      })
      await expect(reading).rejects.toMatchObject({
        code: 'SOURCE_CHANGED',
        details: { table: 'public.kept' },
        message: expect.stringMatching(/public\.kept .* was refreshed/) as string,
      })
      expect([...((await cut(client, [source])).truth[0] as Fold).values()]).toContain(1)
    },
  )

  it('that is refreshed concurrently is read as it was at the watermark', async () => {
    const source = await resolve(client, definition('seen'))
    await other.query('truncate base; refresh materialized view kept')
    const found = await inWatermark(client, [source], 'version', async () => {
      await other.query('insert into base values (1); refresh materialized view concurrently kept')
      return read(scanSource(client, source))
    })
    expect(found.counts.size).toBe(0)
  })
})
