import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { VIEWER_READS } from '../../src/registry/grants.ts'
import { testDatabase } from '../support/services.ts'

/** Every column of every view, and whatever else has a comment. */
const DOCUMENTED = `
  select c.relname as view, a.attname as column, format_type(a.atttypid, a.atttypmod) as type, col_description(c.oid, a.attnum) as description
    from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
   where c.relnamespace = 'snapflip'::regnamespace and (c.relkind = 'v' or col_description(c.oid, a.attnum) is not null)
   order by c.relname, a.attnum`

test('the views that reports read have every documented column and no other, by name, type and meaning, and viewers may read them', async () => {
  const { pool, drop } = await testDatabase()
  const { rows } = await pool.query<{ view: string; column: string; type: string; description: string }>(DOCUMENTED)
  await drop()
  const page = await readFile(new URL('../../docs/history.md', import.meta.url), 'utf8')
  const documented = page
    .slice(page.indexOf('\n## Views for reports'))
    .split('\n')
    .filter((line) => /^\| `\w+\.\w+` \|/.test(line))
  expect(documented).toEqual(
    rows.map(({ view, column, type, description }) => `| \`${view}.${column}\` | ${type} | ${description} |`),
  )
  expect([...new Set(rows.map(({ view }) => view))]).toEqual([...VIEWER_READS].sort())
})

test('nobody writes through a view that reports read, whatever they are granted', async () => {
  const { pool, drop } = await testDatabase()
  for (const view of VIEWER_READS) {
    const written = [
      `insert into snapflip.${view} (dataset) values ('shop')`,
      `update snapflip.${view} set dataset = 'shop'`,
      `delete from snapflip.${view}`,
    ]
    for (const statement of written)
      await expect(pool.query(statement), statement).rejects.toMatchObject({ code: '55000' })
  }
  await drop()
})
