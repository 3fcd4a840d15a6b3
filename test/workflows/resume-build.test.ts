import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { version } from '../../src/registry/version.ts'
import { makeWorld, type World } from '../support/world.ts'

const ROWS = 1_024_000
/** Of 32,000 rows each, as activities/scan-index.ts has it. */
const RANGES = ROWS / 32_000

/** Ranges that the build has finished, as its journal has them. */
async function rangesDone(world: World): Promise<number> {
  const names = await readdir(world.workDir, { recursive: true }).catch(() => [])
  const journal = names.find((name) => name.endsWith('/journal'))
  if (journal === undefined) return 0
  return (await readFile(join(world.workDir, journal), 'utf8').catch(() => '')).split('"id":"range-').length - 1
}

it('a build killed at half goes on where it was, and loses no change that came before, meanwhile or after', async () => {
  const world = await makeWorld({
    schema: `create table items (id integer primary key, n integer not null);
      insert into items select g, g from generate_series(1, ${ROWS}) g`,
    dataset: { indexes: { items: { from: 'public.items', key: 'id', value: 'n' } } },
  })
  let writing = true
  const random = (): number => 1 + Math.floor(Math.random() * ROWS)
  const writer = (async () => {
    for (let n = 0; writing; n++) {
      await world.pool.query('update items set n = $2 where id = $1', [random(), -n])
      await world.pool.query('delete from items where id = $1', [random()])
      await world.pool.query('insert into items values ($1, $2)', [ROWS + 1 + n, n])
      // Moves between ranges, some of them read already.
      await world.pool.query('update items set id = $2 where id = $1', [random(), -n - 1])
      await sleep(5)
    }
  })()

  const victim = await world.workerProcess()
  const refresh = world.refresh()
  await expect.poll(() => rangesDone(world), { timeout: 120_000, interval: 5 }).toBeGreaterThanOrEqual(RANGES / 2)
  victim.signal('SIGKILL')
  await victim.ended()
  const before = await rangesDone(world)

  let readAgain = 0
  await world.worker((deps) => ({
    ...deps,
    builder: async () => {
      const client = await deps.builder()
      const query = client.query.bind(client) as (...args: unknown[]) => unknown
      client.query = ((...args: unknown[]) => {
        const { text } = args[0] as { text?: string }
        if (text?.includes('from public.items as items where row(')) readAgain++
        return query(...args)
      }) as typeof client.query
      return client
    },
  }))
  const outcome = await refresh
  writing = false
  await writer
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  console.info(`${before} of ${RANGES} ranges read before the kill, ${readAgain} afterwards`)
  expect(readAgain).toBeGreaterThan(0)
  expect(readAgain + before).toBeGreaterThanOrEqual(RANGES)
  expect(readAgain).toBeLessThan(0.6 * RANGES)

  // What was written meanwhile is in the version or in the changes since: neither lost nor twice.
  const next = await world.refresh()
  expect(next.summary).toMatch(/^items: \+\d+ ~\d+ -\d+ of/)
  const full = await world.refresh({ full: true })
  const digestOf = async (tag: string | null) => (await version(world.pool, world.dataset, tag as string)).digest
  expect(await digestOf(full.tag)).toBe(await digestOf(next.tag))
  expect(world.logged.filter((line) => line.alert !== undefined)).toEqual([])
}, 600_000)
