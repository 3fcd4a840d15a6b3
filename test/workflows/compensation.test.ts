import { ApplicationFailure, Context } from '@temporalio/activity'
import { type WorkflowExecutionDescription, WorkflowFailedError } from '@temporalio/client'
import { expect, it, onTestFinished } from 'vitest'
import { pinDataset } from '../../activities/pin.ts'
import { releaseVersion } from '../../activities/quarantine.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'
import { flips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { openRefreshOf } from '../../src/registry/open-refresh-of.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { version } from '../../src/registry/version.ts'
import { type Between, FaultPlan } from '../stores/faults.ts'
import { damageBlock, damagingFlips } from '../support/damage.ts'
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

it("under an operator's pin what becomes active is read back too, and a rollback's target as well", async () => {
  const world = await makeWorld(SHOP)
  const damage = damagingFlips(world)
  await world.worker(around(damage))
  const { tag: pinned } = await world.refresh()
  const until = '2100-01-01T00:00:00.000Z'
  await pinDataset(world.changeDeps, {
    dataset: world.dataset,
    tag: pinned as string,
    until,
    by: 'ana',
    reason: 'audit',
  })
  const good = await world.refresh({ full: true })
  expect(good).toMatchObject({
    status: 'FLIPPED',
    active: good.tag,
    summary: expect.stringContaining(`readers stay on ${pinned}, where ana pinned them until ${until}`),
  })
  damage.armed = true
  const bad = await world.refresh({ full: true })
  expect(bad).toMatchObject({ status: 'ROLLED_BACK', active: good.tag })
  expect(await world.pointer()).toMatchObject({ quarantined: [bad.tag], pin: { version: { tag: pinned } } })

  await world.resume()
  await world.refresh({ full: true })
  await damageBlock(world, good.tag as string)
  expect(failureCode(await world.rollback({ to: good.tag as string }).catch((error: unknown) => error))).toBe(
    'VERIFY_FAILED',
  )
  expect(alertsOf(world)).toEqual(['VERIFY_FAILED', 'ROLLBACK_UNHEALTHY'])
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

/** Once armed, the pointer is set by `flip` or `flipBack`, and from then on neither they nor `settle` can ask it anything. */
function unheard(): Between & { armed: boolean } {
  let made = false
  return {
    armed: false,
    async run(operation, call) {
      const { activityType } = Context.current().info
      if (!this.armed || !operation.startsWith('pointer.') || !/^(flip|settle)/.test(activityType)) return call()
      if (!made && operation !== 'pointer.swap') return call()
      if (!made) await call()
      made = true
      throw ApplicationFailure.nonRetryable(`the reply to ${activityType} was lost.`, 'STORE_UNREACHABLE')
    },
  }
}

it('a flip of which nobody can read whether it was made ends the refresh as failed, saying so; the next one reads it', async () => {
  const world = await makeWorld(SHOP)
  const fault = unheard()
  await world.worker(around(fault))
  await world.refresh()
  await world.pool.query('update products set price = 1 where id <= 20')
  fault.armed = true
  const failure = await world.refreshFailure()
  fault.armed = false

  const { tag } = (await world.pointer()).active ?? {}
  const told = `Whether readers are on ${tag} is not known`
  expect(failureCode(failure)).toBe('STORE_UNREACHABLE')
  expect(failureMessage(failure)).toContain(told)
  const { rows } = await world.pool.query('select status, summary from snapflip.refresh_runs order by opened_at desc')
  expect(rows[0]).toEqual({ status: 'FAILED', summary: failureMessage(failure) })
  expect(alertsOf(world)).toEqual(['COMPENSATION_FAILED'])
  expect(await kindsOf(world)).not.toContain('build.swept')
  expect(await flips(world.pool, world.dataset, 1)).toMatchObject([{ to: tag, outcome: null }])

  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW', active: tag })
  expect(await flips(world.pool, world.dataset, 1)).toMatchObject([{ to: tag, outcome: 'confirmed' }])
  expect((await version(world.pool, world.dataset, tag as string)).state).toBe('active')
  await verifyHistory(world.pool)
})

it('a rollback of which nobody can read whether it was made says so', async () => {
  const world = await makeWorld(SHOP)
  const fault = unheard()
  await world.worker(around(fault))
  await world.refresh()
  await world.refresh({ full: true })
  fault.armed = true
  const failure = await world.rollback().catch((error: unknown) => error)
  expect(failureCode(failure)).toBe('STORE_UNREACHABLE')
  expect(failureMessage(failure)).toContain(`Whether ${world.dataset} was taken back is not known`)
})

it('whatever may have to repair a store is not cut off by the clock', async () => {
  const world = await makeWorld(SHOP)
  const damage = damagingFlips(world)
  await world.worker(around(damage))
  damage.armed = true
  await world.refresh()
  const clocks: Record<string, number[]> = {}
  for (const workflowId of [WORKFLOW_ID.refresh(world.dataset), WORKFLOW_ID.rollback(world.dataset)]) {
    const { events } = await world.client.workflow.getHandle(workflowId).fetchHistory()
    for (const { activityTaskScheduledEventAttributes: asked } of events ?? []) {
      const name = asked?.activityType?.name
      if (!name) continue
      clocks[name] = [asked.scheduleToCloseTimeout, asked.startToCloseTimeout].map((clock) => Number(clock?.seconds))
    }
  }
  const day = 24 * 60 * 60
  const none = 0
  for (const name of ['flip', 'settle', 'hold', 'flipBack']) expect(clocks[name], name).toEqual([none, day])
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
  const { rows } = await world.pool.query('select status from snapflip.refresh_runs')
  expect(rows).toEqual([{ status: 'CANCELLED' }])
  const store = await world.store()
  expect(await store.data.generations()).toEqual([])
  expect((await store.pointer.read())?.pointer.active ?? null).toBeNull()
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
})

const BAKED = { ...SHOP, dataset: { ...SHOP.dataset, bake: { forMs: 60_000 } } }

/** The watch over what the last flip made active; terminated when the test ends. */
async function bakes(world: World): Promise<WorkflowExecutionDescription> {
  const { flipId } = await world.pointer()
  const bake = world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, flipId as string))
  const described = await bake.describe()
  onTestFinished(() => void bake.terminate().catch(() => undefined))
  return described
}

it('where what readers were moved to cannot be read back, it is watched all the same; a watch that is gone is told by the next refresh', async () => {
  const world = await makeWorld({
    ...BAKED,
    dataset: { ...BAKED.dataset, bake: { forMs: 60_000, whileBaking: 'end' } },
  })
  let armed = false
  const [arrived, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  await world.worker(
    around({
      async run(_operation, call) {
        const { activityType } = Context.current().info
        if (activityType === 'verifyRollback') {
          arrived.resolve()
          await gate.promise
        }
        if (armed && activityType.startsWith('verify'))
          throw ApplicationFailure.nonRetryable('it does not answer', 'STORE_UNREACHABLE')
        return call()
      },
    }),
  )
  const { dataset, pool } = world
  const running = { status: { name: 'RUNNING' } }
  const { tag: first } = await world.refresh()
  await pool.query('update products set price = 1 where id <= 20')
  armed = true
  const { tag: second, status, summary } = await world.refresh()
  expect([status, summary]).toEqual(['FLIPPED', `readers are on ${second}; then: it does not answer`])
  expect(await bakes(world)).toMatchObject(running)

  const told = () => historyEntries(pool, { dataset, kind: 'bake.unwatched' })
  const late = 'update snapflip.flip_intents set bake_until = now() where outcome is not null and bake_outcome is null'
  const back = world.rollback().catch((error: unknown) => error)
  onTestFinished(() => gate.resolve())
  await arrived.promise
  // A scheduled refresh comes while its target is still being read.
  await pool.query(late)
  expect(failureCode(await world.refreshFailure())).toBe('ON_HOLD')
  expect(await told()).toEqual([])
  gate.resolve()
  expect(failureCode(await back)).toBe('STORE_UNREACHABLE')
  expect(failureMessage(await back)).toContain(`is back from ${second} at ${first}`)
  expect(await bakes(world)).toMatchObject(running)

  const by = { dataset, by: 'ana', reason: 'it was the reader' }
  await releaseVersion(world.changeDeps, { ...by, tag: second as string })
  await world.resume()
  const where = { workflowId: WORKFLOW_ID.flipTo(dataset), taskQueue: world.config.temporal.taskQueue }
  const forward = await world.client.workflow
    .execute('flipTo', { ...where, args: [{ dataset, to: second, reason: 'it was the reader' }] })
    .catch((error: unknown) => error)
  expect(failureCode(forward)).toBe('STORE_UNREACHABLE')
  expect(failureMessage(forward)).toContain(`${dataset} went forward to ${second}`)
  const { workflowId } = await bakes(world)

  armed = false
  await pool.query(late)
  // Late, but at work.
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect(await told()).toEqual([])
  await world.client.workflow.getHandle(workflowId).terminate()
  expect(await world.refresh()).toMatchObject({ status: 'NOTHING_NEW' })
  expect(await told()).toMatchObject([{ version: second, detail: { summary: expect.stringContaining(workflowId) } }])
  expect(await flips(pool, dataset, 1)).toMatchObject([{ bakeOutcome: 'cutShort' }])
})

it.each(['before', 'after'] as const)(
  'cancelled %s the pointer is set, a flip is still seen through, and watched',
  async (when) => {
    const world = await makeWorld(BAKED)
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
    const { rows } = await world.pool.query('select outcome from snapflip.flip_intents')
    expect(rows).toEqual([{ outcome: 'confirmed' }])
    expect(await bakes(world)).toMatchObject({ status: { name: 'RUNNING' } })
    expect((await version(world.pool, world.dataset, outcome.tag as string)).state).toBe('active')
  },
)
