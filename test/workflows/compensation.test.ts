import { Context } from '@temporalio/activity'
import { WorkflowFailedError } from '@temporalio/client'
import { expect, it } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { openRefreshOf } from '../../src/registry/open-refresh-of.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { version } from '../../src/registry/version.ts'
import { FaultPlan } from '../stores/faults.ts'
import { damagingFlips } from '../support/damage.ts'
import { around, makeWorld, type World } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, sku text not null, price integer not null);
    insert into products select n, 'sku-' || n, n * 10 from generate_series(1, 300) n`,
  dataset: {
    indexes: {
      products: { from: 'public.products', key: 'id', value: ['sku', 'price'] },
      bySku: { from: 'public.products', key: 'sku', value: 'id' },
    },
  },
}

const alertsOf = (world: World) => world.logged.flatMap((line) => (line.alert === undefined ? [] : [line.alert]))
const kindsOf = async (world: World) =>
  (await historyEntries(world.pool, { dataset: world.dataset })).map((entry) => entry.kind)

it('a block damaged between flip and verify takes readers back, holds the dataset and tells', async () => {
  const world = await makeWorld(SHOP)
  const damage = damagingFlips(world)
  await world.worker(around(damage))
  const first = await world.refresh()
  const reader = await world.reader()
  await world.pool.query('update products set price = 1 where id <= 20')
  damage.armed = true
  const second = await world.refresh()

  expect(second).toMatchObject({ status: 'ROLLED_BACK', active: first.tag })
  expect(second.summary).toContain('does not read back')
  const pointer = await world.pointer()
  expect(pointer).toMatchObject({ active: { tag: first.tag }, quarantined: [second.tag] })
  expect(pointer.hold?.reason).toContain('does not read back')
  expect((await version(world.pool, world.dataset, second.tag as string)).state).toBe('quarantined')
  await expect.poll(() => reader.get('products', 7)).toEqual({ sku: 'sku-7', price: 70 })
  expect(reader.version.tag).toBe(first.tag)
  expect(alertsOf(world)).toEqual(['VERIFY_FAILED'])
  expect(await kindsOf(world)).toEqual(expect.arrayContaining(['alert.verify_failed', 'rollback.confirmed']))
  expect(failureCode(await world.refreshFailure())).toBe('ON_HOLD')
  await verifyHistory(world.pool)
})

it('a first version that does not read back stays, on hold, and a full refresh replaces it', async () => {
  const world = await makeWorld(SHOP)
  const damage = damagingFlips(world)
  await world.worker(around(damage))
  damage.armed = true
  const first = await world.refresh()

  expect(first).toMatchObject({ status: 'FAILED', active: first.tag })
  expect(first.summary).toMatch(/could not be taken back.*snapflip resume.*--full/)
  expect((await world.pointer()).hold).toMatchObject({ by: 'snapflip' })
  expect(alertsOf(world)).toEqual(['VERIFY_FAILED', 'COMPENSATION_FAILED'])
  expect(failureCode(await world.refreshFailure({ full: true }))).toBe('ON_HOLD')

  await world.resume()
  expect(await world.refresh({ full: true })).toMatchObject({ status: 'FLIPPED' })
  expect(await (await world.reader()).get('products', 7)).toEqual({ sku: 'sku-7', price: 70 })
})

it('a build that fails midway leaves nothing staged, and its compensation is in the history', async () => {
  const world = await makeWorld(SHOP)
  const full = new SnapflipError('STORE_FULL', 'no room for the second index')
  let finishes = 0
  await world.worker(
    around({
      run: async (operation, call) => {
        if (operation === 'writer.finish' && ++finishes === 2) throw full
        return call()
      },
    }),
  )
  const failure = await world.refreshFailure()
  expect(failureCode(failure)).toBe('STORE_FULL')
  expect(await (await world.store()).data.generations()).toEqual([])
  const entries = await historyEntries(world.pool, { dataset: world.dataset })
  expect(entries.find((entry) => entry.kind === 'refresh.closed')?.detail).toMatchObject({ status: 'FAILED' })
  expect(entries.filter((entry) => entry.kind === 'build.swept')).toHaveLength(2)
  expect(await openRefreshOf(world.pool, world.dataset)).toBeNull()
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
})

it('a compensation that fails is told and recorded, and the next refresh does what it left', async () => {
  const world = await makeWorld(SHOP)
  const plan = new FaultPlan()
    .fail('writer.finish', { kind: 'before', error: new SnapflipError('STORE_FULL', 'no room') })
    .fail('data.deleteGeneration', {
      kind: 'before',
      error: new SnapflipError('STORE_UNSUITABLE', 'nothing can be deleted'),
    })
  await world.worker(around(plan))
  expect(failureCode(await world.refreshFailure())).toBe('STORE_FULL')
  expect(plan.left).toBe(0)
  expect(alertsOf(world)).toEqual(['COMPENSATION_FAILED'])
  const [told] = await historyEntries(world.pool, { dataset: world.dataset, kind: 'alert' })
  expect(told).toMatchObject({ kind: 'alert.compensation_failed' })
  expect(told?.detail.summary).toContain('nothing can be deleted')

  const store = await world.store()
  const [left] = await store.data.generations()
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  expect((await store.data.generations()).map(({ generation }) => generation)).not.toContain(left?.generation)
})

it('cancelled while it builds, a refresh ends CANCELLED with nothing staged, and the next may begin', async () => {
  const world = await makeWorld(SHOP)
  let cancelled = false
  await world.worker(
    around({
      run: async (operation, call) => {
        if (operation !== 'writer.finish' || cancelled) return call()
        cancelled = true
        await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).cancel()
        await Context.current().cancelled.catch(() => undefined)
        return call()
      },
    }),
  )
  const failure = await world.refreshFailure()
  expect(failure).toBeInstanceOf(WorkflowFailedError)
  expect((failure as Error).cause).toMatchObject({ name: 'CancelledFailure' })
  const { rows } = await world.pool.query('select status from snapflip.refreshes')
  expect(rows).toEqual([{ status: 'CANCELLED' }])
  const store = await world.store()
  expect(await store.data.generations()).toEqual([])
  expect((await store.pointer.read())?.pointer.active ?? null).toBeNull()
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
})

it.each(['before', 'after'] as const)('cancelled %s the pointer is set, a flip is still seen through', async (when) => {
  const world = await makeWorld(SHOP)
  const cancel = async () => {
    await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).cancel()
  }
  let cancelled = false
  await world.worker(
    around({
      run: async (operation, call) => {
        if (operation !== 'pointer.swap' || cancelled) return call()
        cancelled = true
        if (when === 'before') await cancel()
        const result = await call()
        if (when === 'after') await cancel()
        return result
      },
    }),
  )
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED', active: outcome.tag })
  const { rows } = await world.pool.query('select outcome from snapflip.flips')
  expect(rows).toEqual([{ outcome: 'confirmed' }])
  expect((await version(world.pool, world.dataset, outcome.tag as string)).state).toBe('active')
})
