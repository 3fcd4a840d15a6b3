import { readdir } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { around, makeWorld } from '../support/world.ts'

const INDEXES = 20

it('what the indexes of one build keep in memory is one budget: past it they use files, and lose nothing', async () => {
  const rows = 2_000
  const world = await makeWorld({
    schema: `create table products (id integer primary key, name text not null);
      insert into products select n, repeat(md5(n::text), 80) from generate_series(1, ${rows}) n`,
    dataset: {
      // Without capture each is read at once and kept; 5 MB each, 100 MB in all.
      indexes: Object.fromEntries(
        Array.from({ length: INDEXES }, (_, n) => [
          `i${n}`,
          { from: 'public.products', key: 'id', value: 'name', capture: 'none' as const },
        ]),
      ),
    },
  })
  let files: string[] | null = null
  await world.worker(
    around({
      async run(operation, call) {
        // All is read when the first index is merged.
        if (operation === 'data.begin') files ??= await readdir(world.workDir, { recursive: true })
        return call()
      },
    }),
  )
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  const written = (files as string[] | null)?.filter((name) => name.endsWith('.run')) ?? []
  expect(written.length).toBeGreaterThan(0)
  expect(written.length).toBeLessThan(INDEXES)
  const reader = await world.reader()
  const { rows: wanted } = await world.pool.query<{ name: string }>('select name from products where id = 77')
  for (const index of ['i0', `i${INDEXES - 1}`]) expect(await reader.get(index, 77)).toBe(wanted[0]?.name)
}, 120_000)
