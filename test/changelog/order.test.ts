import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { postgresVersions, testDatabase } from '../support/services.ts'
import { connect, resolve } from './fold.ts'

/** Values of each type that `order` takes, with those at its ends and some that differ in little. */
const VALUES: Readonly<Record<string, string>> = {
  smallint: `unnest(array[-32768, -1, 0, 1, 255, 256, 32767])`,
  integer: `unnest(array[-2147483648, -65536, -1, 0, 1, 65535, 2147483647])`,
  bigint: `unnest(array[-9223372036854775808, -4294967296, -1, 0, 1, 4294967295, 9223372036854775807])`,
  date: `unnest(array['-infinity', '0044-03-15 BC', '1999-12-31', '2000-01-01', '2000-01-02', 'infinity'])`,
  timestamp: `unnest(array['-infinity', '0044-03-15 BC', '1999-12-31 23:59:59.999999', '2000-01-01', '2026-05-18 12:00', 'infinity'])`,
  timestamptz: `unnest(array['-infinity', '1999-12-31 23:59:59.999999+00', '2000-01-01 00:00+00', '2000-01-01 00:00+14', 'infinity'])`,
  real: `unnest(array['-infinity', '-3.4e38', '-1.5', '-1e-40', '0', '-0', '1e-40', '1.5', '1.6', '3.4e38', 'infinity', 'nan'])`,
  'double precision': `unnest(array['-infinity', '-1e308', '-1.5', '-5e-324', '0', '-0', '5e-324', '1.5', '1e308', 'infinity', 'nan'])`,
  numeric: `unnest(array['-Infinity', 'Infinity', 'NaN', '0', '0.000', '-0.1', '0.1', '0.01', '0.011', '-0.01', '-0.011', '1', '1.0', '1.00', '1.01',
    '9', '10', '99', '99.9', '100', '101', '-9', '-10', '-99', '-99.9', '-100', '-101', '1e40', '-1e40', '1e-40', '-1e-40', '123456789.987654321'])
    union all select ((random() * 2 - 1)::numeric * power(10::numeric, (random() * 60 - 30)::int))::text from generate_series(1, 300)
    union all select ((g - 150) / 10.0)::text from generate_series(1, 300) g`,
  text: `unnest(array['', 'a', 'A', 'aa', 'b', 'ä', 'ß', 'z', '日', '🙂', 'a b', 'a-b'])`,
  'character varying(9)': `unnest(array['', 'a', 'A', 'aa', 'ä'])`,
  'numeric(12,2)': `unnest(array['-1.10', '-1.1', '0', '2.25', '10'])`,
  uuid: `gen_random_uuid()::text from generate_series(1, 50)`,
  boolean: `unnest(array['f', 't'])`,
  bytea: `unnest(array['', '\\x00', '\\x0000', '\\x01', '\\xff', '\\xff00'])`,
}

describe.each(postgresVersions)('order on PostgreSQL %s', (version) => {
  let client: Client
  beforeAll(async () => {
    client = await connect(await testDatabase({ version }))
  })
  afterAll(() => client.end())

  it.each(Object.keys(VALUES))('bytes sort as values of %s do, and are equal where they are', async (type) => {
    const base = type.replace(/\(.*/, '')
    const table = `ordered_${base.replace(/ /g, '_')}${type === base ? '' : '_limited'}`
    await client.query(`create table ${table} (id serial primary key, v ${type});
      insert into ${table} (v) select v::${type} from (select ${VALUES[type]}) as given (v)`)
    // It is taken as a definition's order, with the type's length or scale.
    await resolve(client, { from: table, key: 'id', value: 'id', many: true, order: 'v' })
    const collate = /text|varying/.test(type) ? ' collate "C"' : ''
    const cast = /varying/.test(type) ? '::text' : ''
    const { rows } = await client.query<{ pairs: string; wrong: number }>(
      `select count(*) as pairs, count(*) filter (where sign_of_values <> sign_of_bytes)::int as wrong
         from (
           select case when a.v${collate} < b.v${collate} then -1 when a.v${collate} = b.v${collate} then 0 else 1 end as sign_of_values,
                  case when x < y then -1 when x = y then 0 else 1 end as sign_of_bytes
             from (select v, snapflip.order_bytes(v${cast}) as x from ${table}) a
            cross join (select v, snapflip.order_bytes(v${cast}) as y from ${table}) b
         ) compared`,
    )
    expect(Number(rows[0]?.pairs)).toBeGreaterThan(3)
    expect(rows[0]?.wrong).toBe(0)
  })
})
