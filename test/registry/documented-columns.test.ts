import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { VIEWER_READS } from '../../src/registry/grants.ts'
import { testDatabase } from '../support/services.ts'

/** The columns of docs/history.md, as the catalogue has them: whatever has a comment is documented, and stays. */
const DOCUMENTED = `
  select c.relname as table, a.attname as column, format_type(a.atttypid, a.atttypmod) as type, d.description
    from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         join pg_description d on d.objoid = c.oid and d.objsubid = a.attnum and d.classoid = 'pg_class'::regclass
   where c.relnamespace = 'snapflip'::regnamespace
   order by c.relname, a.attnum`

test('the tables that reports read have every documented column, by name, type and meaning, and viewers may read them', async () => {
  const { pool, drop } = await testDatabase()
  const { rows } = await pool.query<{ table: string; column: string; type: string; description: string }>(DOCUMENTED)
  await drop()
  const page = await readFile(new URL('../../docs/history.md', import.meta.url), 'utf8')
  const documented = page
    .slice(page.indexOf('\n## Tables for reports'))
    .split('\n')
    .filter((line) => /^\| `\w+\.\w+` \|/.test(line))
  expect(documented).toEqual(
    rows.map(({ table, column, type, description }) => `| \`${table}.${column}\` | ${type} | ${description} |`),
  )
  expect([...new Set(rows.map(({ table }) => table))]).toEqual([...VIEWER_READS].sort())
})
