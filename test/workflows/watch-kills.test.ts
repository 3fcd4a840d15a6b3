import { describe, expect, it, vi } from 'vitest'
import { expectSound } from '../support/soundness.ts'
import type { ProcessFault } from '../support/worker-process.ts'
import { makeWorld } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n * 10 from generate_series(1, 300) n`,
  dataset: {
    indexes: { products: { from: 'public.products', key: 'id', value: 'price' } },
    canary: { share: 0.5, forMs: 1_000 },
    bake: { forMs: 1_000 },
  },
}

/** A worker takes 10 s to be missed: the waits of several datasets overlap. */
vi.setConfig({ maxConcurrency: 7, testTimeout: 240_000 })

const KILLS: ReadonlyArray<Omit<ProcessFault, 'how'>> = [
  { at: 'activity.beginCanary', when: 'before' },
  { at: 'activity.beginCanary', when: 'after' },
  // The second pointer that is written in a refresh with a canary is the flip's; the third ends the bake.
  { at: 'pointer.swap', when: 'after' },
  { at: 'activity.watchCanary', when: 'after' },
  { at: 'activity.watchBake', when: 'before' },
  { at: 'pointer.swap', when: 'before', nth: 3 },
  { at: 'activity.watchBake', when: 'after' },
]

describe.concurrent('a worker that is killed in a canary or a bake', () => {
  it.for(KILLS.map((kill) => ({ nth: 1, ...kill })))('$when $at ($nth)', async (kill, { onTestFinished }) => {
    const world = await makeWorld({
      ...SHOP,
      onFinished: onTestFinished as (close: () => Promise<void>) => void,
    })
    const victim = await world.workerProcess({ ...kill, how: 'SIGKILL' })
    await world.refresh()
    await world.pool.query('update products set price = price + 1')
    await victim.arm()
    const refresh = world.refresh()
    expect(await victim.ended()).toBe('SIGKILL')
    await world.worker()
    const outcome = await refresh
    expect(outcome).toMatchObject({ status: 'FLIPPED', active: outcome.tag })
    expect(outcome.gates.at(-1)).toMatchObject({ gate: 'canary', verdict: 'pass' })
    expect(await world.pointer()).toMatchObject({ candidate: null, bake: null })
    const { rows } = await world.pool.query(
      `select (select array_agg(outcome) from snapflip.canaries) as canaries,
              (select array_agg(bake_outcome order by epoch) from snapflip.flip_intents) as bakes`,
    )
    expect(rows).toEqual([{ canaries: ['flipped'], bakes: ['baked', 'baked'] }])
    await expectSound(world)
  })
})
