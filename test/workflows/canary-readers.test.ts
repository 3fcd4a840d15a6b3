import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { open, type Reader } from '../../src/index.ts'
import { gateResults } from '../../src/registry/gate-results.ts'
import { expectSound } from '../support/soundness.ts'
import { worldOnRedis } from '../support/world-on-redis.ts'

/** Enough that some of them are on either side, whatever the salt. */
const READERS = 24

it('readers of the SDK keep a bad candidate from becoming active, and are all back on the version before', async () => {
  const { world } = await worldOnRedis({
    canary: { share: 0.5, forMs: 6_000, minimumReads: 200, minimumReaders: 3 },
    bake: { forMs: 2_000, minimumReads: 200 },
  })
  await world.worker()
  const first = await world.refresh()
  expect(first).toMatchObject({ status: 'FLIPPED' })

  const url = world.config.stores.main as string
  const readers: Reader[] = []
  for (let n = 0; n < READERS; n++)
    readers.push(await open(url, world.dataset, { followLagMs: 50, reportMs: 100, key: `reader-${n}` }))
  const stop = new AbortController()
  const reading = readers.map(async (reader, n) => {
    for (let turn = n; !stop.signal.aborted; turn++) {
      const keys = Array.from({ length: 10 }, (_, key) => ((turn * 10 + key) % 300) + 1)
      await reader.getMany('products', keys)
      await sleep(20)
    }
  })
  onTestFinished(async () => {
    stop.abort()
    await Promise.all(reading)
    for (const reader of readers) await reader.close()
  })

  // Less than the gates look at, and what most readers ask for.
  await world.pool.query('delete from products where id % 3 = 0')
  const refused = await world.refresh()
  expect(refused).toMatchObject({ status: 'REJECTED', active: first.tag, summary: expect.stringContaining('misses') })
  const result = (await gateResults(world.pool, world.dataset, refused.tag as string)).at(-1)
  expect(result).toMatchObject({ gate: 'canary', verdict: 'reject' })
  expect(result?.actual.look).toBeLessThan(20)
  for (const reader of readers) await expect.poll(() => reader.version.tag).toBe(first.tag)

  // The same rows are back: as good as before, by the word of the same readers, in the canary and in the bake.
  await world.pool.query(`insert into products select n, 'sku-' || n, n * 10 + 1 from generate_series(3, 300, 3) n`)
  const good = await world.refresh()
  expect(good).toMatchObject({
    status: 'FLIPPED',
    summary: expect.stringMatching(/baked: [1-9]\d* reads by 24 readers/),
  })
  expect(good.gates.at(-1)).toMatchObject({
    gate: 'canary',
    verdict: 'pass',
    summary: expect.stringContaining('no worse'),
  })
  await expectSound(world)

  const { summary } = await world.rollback({ reason: 'prices are off' })
  expect(summary).toContain(
    `every block is whole. No pin holds a quarantined version; 24 of 24 readers report from ${first.tag}.`,
  )
}, 120_000)
