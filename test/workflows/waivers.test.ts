import { expect, it } from 'vitest'
import { isAgainst } from '../../src/core/judgement.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { version } from '../../src/registry/version.ts'
import { versions } from '../../src/registry/versions.ts'
import { waive } from '../../src/registry/waive.ts'
import { makeWorld, type World, type WorldOptions } from '../support/world.ts'

const CHANGE_VOLUME = { deleted: { percent: 10, atLeast: 10, verdict: 'reject' } } as const

const shop = (capture: 'triggers' | 'none') =>
  ({
    schema: `create table products (id integer primary key, sku text not null);
      insert into products select n, 'sku-' || n from generate_series(1, 300) n`,
    dataset: {
      indexes: { products: { from: 'public.products', key: 'id', value: ['sku'], capture } },
      gates: { changeVolume: CHANGE_VOLUME },
    },
  }) satisfies WorldOptions

const tomorrow = () => new Date(Date.now() + 86_400_000)
const tags = async (world: World) => (await versions(world.pool, world.dataset)).map(({ tag }) => tag)

it.each(['triggers', 'none'] as const)(
  'what was rejected is not built again until source, waiver or definition changed (capture %s)',
  async (capture) => {
    const world = await makeWorld(shop(capture))
    await world.worker()
    const first = await world.refresh()
    const before = await world.pointer()
    await world.pool.query('delete from products where id > 100')
    const rejected = await world.refresh()
    expect(rejected).toMatchObject({ status: 'REJECTED' })
    const refused = rejected.tag as string

    // The same source, the same definition, no waiver.
    const again = await world.refresh()
    expect(again).toMatchObject({ status: 'REJECTED', tag: null, active: first.tag })
    expect(again.summary).toContain(
      `not built again: source, definition and waivers are as when ${refused} was rejected`,
    )
    expect(again.summary).toContain('changeVolume of products: 200 deleted')
    expect(await tags(world)).toEqual([refused, first.tag])
    expect((await (await world.store()).data.generations()).length).toBe(2)
    expect(await world.pointer()).toEqual(before)

    // A person asks for it.
    expect(await world.refresh({ full: true })).toMatchObject({ status: 'REJECTED', tag: expect.any(String) })
    expect(await tags(world)).toHaveLength(3)

    // The source.
    await world.pool.query('delete from products where id > 99')
    const moved = await world.refresh()
    expect(moved).toMatchObject({ status: 'REJECTED', tag: expect.any(String) })
    expect(await world.refresh()).toMatchObject({ status: 'REJECTED', tag: null })

    // The definition.
    const { gates, ...definition } = world.config.datasets[world.dataset] as NonNullable<
      (typeof world.config.datasets)['x']
    >
    world.config.datasets[world.dataset] = { ...definition, gates: { ...gates, drift: { mode: 'full', sample: 1000 } } }
    await world.apply()
    expect(await world.refresh()).toMatchObject({ status: 'REJECTED', tag: expect.any(String) })
  },
)

it('a waiver lets the very version pass that a person looked at, however far the source has moved', async () => {
  const world = await makeWorld(shop('triggers'))
  await world.worker()
  await world.refresh()
  await world.pool.query('delete from products where id > 100')
  const tag = (await world.refresh()).tag as string
  const { dataset } = world
  const wanted = { dataset, tag, gate: 'changeVolume', until: tomorrow(), reason: 'the brand was sold' }

  for (const [wrong, expected] of [
    [{ gate: 'drift' }, 'Expected a gate that refused'],
    [{ gate: 'nope' }, '(changeVolume), found "nope"'],
    [{ until: new Date(Date.now() - 1) }, 'Expected --until after'],
  ] as const) {
    await expect(waive(world.pool, { ...wanted, ...wrong })).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining(expected),
    })
  }
  await expect(waive(world.pool, { ...wanted, tag: 'v20260518-99' })).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' })
  expect((await world.pool.query('select from snapflip.waivers')).rowCount).toBe(0)
  expect(await world.refresh()).toMatchObject({ status: 'REJECTED', tag: null })

  const waived = await waive(world.pool, wanted)
  const { rows } = await world.pool.query<{ me: string }>('select session_user as me')
  expect(waived.by).toBe(rows[0]?.me)
  await world.pool.query("insert into products values (1000, 'later')")
  const passed = await world.refresh()
  expect(passed).toMatchObject({ status: 'FLIPPED', tag, active: tag })
  const evidence = passed.gates.find(({ gate }) => gate === 'changeVolume')
  expect(evidence).toMatchObject({ verdict: 'reject', waived: { by: waived.by, reason: 'the brand was sold' } })
  expect(passed.gates.filter(isAgainst)).toEqual([])
  const kinds = (await historyEntries(world.pool, { dataset, version: tag, limit: 50 })).map(({ kind }) => kind)
  expect(kinds.filter((kind) => ['gate.waived', 'version.rejected', 'version.reopened'].includes(kind)).sort()).toEqual(
    ['gate.waived', 'version.rejected', 'version.reopened'],
  )

  const next = await world.refresh()
  expect(next).toMatchObject({
    status: 'FLIPPED',
    gates: expect.arrayContaining([expect.objectContaining({ gate: 'changeVolume', verdict: 'pass' })]),
  })
  expect((await version(world.pool, dataset, tag)).state).toBe('retained')
})
