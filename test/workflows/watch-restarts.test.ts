import { expect, it, vi } from 'vitest'
import type { Pointer } from '../../schemas/pointer.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { flips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { testFolder } from '../support/services.ts'
import { expectSound } from '../support/soundness.ts'
import { around, type World } from '../support/world.ts'
import { onceIn, repairsOf, setBack, worldOnRedis } from '../support/world-on-redis.ts'

vi.setConfig({ testTimeout: 120_000 })

async function refreshWith(world: World, price: number): Promise<string> {
  await world.pool.query('update products set price = $1', [price])
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED' })
  return outcome.tag as string
}

/** How the bake of the pointer's last flip ended. */
async function bakeOf(world: World, { flipId }: Pointer): Promise<object> {
  return world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, flipId as string)).result()
}

const bakesOf = async (world: World) => (await flips(world.pool, world.dataset)).map((flip) => flip.bakeOutcome)

it('a bake outlives a Redis that comes back empty or older, and its version keeps its budget', async () => {
  const aside = await testFolder()
  const ttl = { budgetMs: 3_600_000, beyond: 'mark' } as const
  const declared = { bake: { forMs: 5_000, whileBaking: 'end' }, ttl } as const
  const { world, redis, restart } = await worldOnRedis(declared, { furtherStores: { aside: `file:${aside.path}` } })
  await world.worker()
  await refreshWith(world, 1)
  const second = await refreshWith(world, 2)
  const flipped = await world.pointer()
  await restart({ empty: true })
  expect(await bakeOf(world, flipped)).toMatchObject({ status: 'BAKED' })
  const baked = await world.pointer()
  expect(baked).toMatchObject({ active: { tag: second }, flipId: flipped.flipId, bake: null, ttl })

  const third = await refreshWith(world, 3)
  const last = await world.pointer()
  await setBack(world, redis, baked)
  expect(await bakeOf(world, last)).toMatchObject({ status: 'BAKED' })
  expect(await world.pointer()).toMatchObject({ active: { tag: third }, flipId: last.flipId, bake: null })
  expect(await repairsOf(world)).toEqual(['behind, asserted', 'missing, restored'])
  expect((await bakesOf(world)).slice(0, 2)).toEqual(['baked', 'baked'])
  await expectSound(world)
})

it('a canary outlives restarts of its Redis; a bake whose version is lost, or that is declared no more, is told of', async () => {
  const { world, restart } = await worldOnRedis({
    canary: { share: 0.5, ramp: [0.6], forMs: 2_000 },
    bake: { forMs: 60_000, whileBaking: 'end' },
  })
  const [begin, ramp] = [onceIn('beginCanary', 'pointer.swap', restart), onceIn('watchCanary', 'pointer.swap', restart)]
  let isDeclared = true
  await world.worker(around({ run: (operation, call) => begin.run(operation, () => ramp.run(operation, call)) }), {
    decorateActivities: (activities) => ({
      ...activities,
      watchBake: async (request) => {
        if (!isDeclared) {
          delete world.config.datasets[world.dataset]?.bake
          await world.apply()
        }
        return activities.watchBake(request)
      },
    }),
  })
  await refreshWith(world, 1)
  begin.armed = true
  ramp.armed = true
  const second = await refreshWith(world, 2)
  expect([begin.armed, ramp.armed]).toEqual([false, false])
  expect(await repairsOf(world)).toEqual(['rebound, asserted', 'rebound, asserted'])

  const flipped = await world.pointer()
  await restart({ empty: true })
  expect(await bakeOf(world, flipped)).toMatchObject({ status: 'UNWATCHED' })
  const third = await refreshWith(world, 3)
  await refreshWith(world, 4)
  isDeclared = false
  expect(await world.rollback()).toMatchObject({ to: third })
  expect(await bakeOf(world, await world.pointer())).toMatchObject({ status: 'UNWATCHED' })
  const entries = await historyEntries(world.pool, { dataset: world.dataset, kind: 'bake' })
  expect(entries).toMatchObject([
    { kind: 'bake.unwatched', version: third, detail: { summary: expect.stringContaining('to declare a bake') } },
    {
      kind: 'bake.unwatched',
      version: second,
      detail: { summary: expect.stringContaining('no version, by no later') },
    },
  ])
  const told = world.logged.filter(({ alert }) => alert === 'COMPENSATION_FAILED').map((line) => line.version)
  expect(told).toEqual([second, third])
  expect(await bakesOf(world)).toEqual(Array(5).fill('cutShort'))
})
