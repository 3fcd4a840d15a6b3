import { expect, it } from 'vitest'
import { makeWorld } from '../support/world.ts'

it('a worker builds, judges and prunes whatever its role or database is set to', async () => {
  const world = await makeWorld({
    schema: `create table items (id integer primary key, n integer not null);
      insert into items select g, g from generate_series(1, 1000) g`,
    dataset: { indexes: { items: { from: 'public.items', key: 'id', value: 'n' } } },
  })
  const { rows } = await world.pool.query('select current_database() as name')
  // Of connections made from here on.
  await world.pool.query(`alter database ${rows[0].name} set default_transaction_read_only = on;
    alter database ${rows[0].name} set default_transaction_isolation = serializable;
    alter database ${rows[0].name} set statement_timeout = '500ms'`)
  const settings: string[] = []
  await world.worker((deps) => ({
    ...deps,
    builder: async () => {
      const client = await deps.builder()
      for (const name of ['statement_timeout', 'default_transaction_read_only'])
        settings.push((await client.query(`select current_setting('${name}') as value`)).rows[0].value)
      return client
    },
    pool: world.pool,
  }))
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  await world.pool.query('begin read write; update items set n = -n where id < 10; commit')
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  expect(new Set(settings)).toEqual(new Set(['0', 'off']))
  expect(world.logged.filter((line) => line.alert !== undefined)).toEqual([])
})
