import { Context } from '@temporalio/activity'
import type { WorkflowExecutionDescription } from '@temporalio/client'
import { describe, expect, it, vi } from 'vitest'
import type { CounterReport } from '../../schemas/counters.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { bakePolicySchema } from '../../schemas/watch.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { flips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { openRefreshOf } from '../../src/registry/open-refresh-of.ts'
import type { Between } from '../stores/faults.ts'
import { report } from '../stores/reports.ts'
import { damageBlock } from '../support/damage.ts'
import { expectSound } from '../support/soundness.ts'
import { around, makeWorld, type World, type WorldOptions } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}
const SHORT = { forMs: 1_000, minimumReads: 500 } as const
const LONG = { ...SHORT, forMs: 60_000 }

/** They mostly wait. */
vi.setConfig({ maxConcurrency: 4, testTimeout: 120_000 })

type Finishing = { onTestFinished: (close: () => void | Promise<void>) => unknown }

async function makeShop(bake: object, { onTestFinished }: Finishing, between?: Between): Promise<World> {
  const onFinished = onTestFinished as NonNullable<WorldOptions['onFinished']>
  const world = await makeWorld({ ...SHOP, dataset: { ...SHOP.dataset, bake }, onFinished })
  await world.worker(between && around(between))
  return world
}

async function declare(world: World, bake: object): Promise<void> {
  Object.assign(world.config.datasets[world.dataset] as object, { bake: bakePolicySchema.parse(bake) })
  await world.apply()
}

/** A refresh with every price changed, once its version is active. */
async function untilFlipped(world: World) {
  await world.pool.query('update products set price = price + 1')
  const before = await world.pointer()
  const refresh = world.refresh()
  const after = await waitUntil('a flip', async () => {
    const pointer = await world.pointer()
    return pointer.flipId === before.flipId ? undefined : pointer
  })
  return { refresh, before, after, tag: after.active?.tag as string }
}

function drilling({ client, dataset, config }: World, request: object = {}): Promise<unknown> {
  const where = { workflowId: WORKFLOW_ID.drill(dataset), taskQueue: config.temporal.taskQueue }
  return client.workflow.execute('drill', { ...where, args: [{ dataset, ...request }] })
}

const untilWatched = (bake: { describe(): Promise<WorkflowExecutionDescription> }) =>
  waitUntil('a bake', () =>
    bake.describe().then(
      ({ raw }) => raw.pendingActivities?.length || undefined,
      () => undefined,
    ),
  )

/** Three readers report from the version that this flip made active. */
async function count(world: World, watchId: string, tag: string, counts: Partial<CounterReport>): Promise<void> {
  const { counters } = await world.store()
  const at = new Date().toISOString()
  for (const readerId of ['a', 'b', 'c'])
    await counters.put(report({ watchId, tag, readerId, reads: 500, since: at, at, ...counts }))
}

const alertsOf = (world: World) => world.logged.filter((line) => line.alert !== undefined)

describe.concurrent('a bake', () => {
  it('a version that is bad for its readers is left by itself; the version gone to is watched too, and only told of', async (context) => {
    const world = await makeShop(SHORT, context)
    const first = await world.refresh()
    expect(first).toMatchObject({ status: 'FLIPPED', summary: expect.stringContaining('baked: 0 reads by 0 readers') })
    const second = await untilFlipped(world)
    expect(second.after.bake).toMatchObject({ flipId: second.after.flipId })
    await count(world, second.after.flipId as string, second.tag, {})
    expect(await second.refresh).toMatchObject({
      status: 'FLIPPED',
      summary: expect.stringContaining('baked: 1500 reads'),
    })
    expect(await world.pointer()).toMatchObject({ bake: null, previous: { tag: first.tag } })

    await declare(world, LONG)
    const third = await untilFlipped(world)
    await count(world, third.after.flipId as string, third.tag, { misses: 100 })
    expect(await third.refresh).toMatchObject({
      status: 'ROLLED_BACK',
      active: second.tag,
      summary: expect.stringContaining('misses (20 % against 0 %; so for 3 of 3 readers)'),
    })
    const back = await world.pointer()
    expect(back).toMatchObject({
      active: { tag: second.tag },
      quarantined: [third.tag],
      hold: { by: expect.any(String) },
    })
    expect(alertsOf(world)).toMatchObject([{ alert: 'BAKE_FAILED', version: third.tag }])

    // Readers fare no better where the rollback took them.
    await count(world, back.flipId as string, second.tag, { errors: 400 })
    const bake = world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, back.flipId as string))
    expect(await bake.result()).toMatchObject({ status: 'UNHEALTHY' })
    expect(alertsOf(world)[1]).toMatchObject({
      alert: 'ROLLBACK_UNHEALTHY',
      version: second.tag,
      msg: expect.stringContaining(`The next good version is ${first.tag}`),
    })
    expect(await world.pointer()).toEqual(back)
    // Started by hand it watches what is there to watch, by the declared limits: nothing any more.
    const again = { dataset: world.dataset, flipId: back.flipId, tag: second.tag, policy: { max: { errors: 0 } } }
    const byHand = { workflowId: `by-hand-${world.dataset}`, taskQueue: world.config.temporal.taskQueue }
    expect(await world.client.workflow.execute('bake', { ...byHand, args: [again] })).toMatchObject({
      status: 'UNHEALTHY',
    })
    const typed = world.client.workflow.execute('bake', { ...byHand, args: [{ dataset: world.dataset }] })
    expect(failureCode(await typed.catch((error: unknown) => error))).toBe('USAGE')
    const kinds = (await historyEntries(world.pool, { dataset: world.dataset, kind: 'bake' })).map(({ kind }) => kind)
    expect(kinds).toEqual(['bake.failed', 'bake.failed', 'bake.passed', 'bake.passed'])
    await expectSound(world)
  })

  it('where the next flip ends a bake, the refresh does not wait; its version is no rollback target; none waits for a rollback’s', async (context) => {
    const world = await makeShop(SHORT, context)
    const baked = await world.refresh()
    await declare(world, { ...LONG, whileBaking: 'end' })
    const second = await untilFlipped(world)
    expect(await second.refresh).toMatchObject({ status: 'FLIPPED' })
    expect((await world.pointer()).bake).toMatchObject({ flipId: second.after.flipId })
    const drilled = await drilling(world).catch((error: unknown) => error)
    expect(failureCode(drilled)).toBe('CONFLICT')
    expect(failureMessage(drilled)).toContain(WORKFLOW_ID.bake(world.dataset, second.after.flipId as string))
    const third = await untilFlipped(world)
    expect(await third.refresh).toMatchObject({ status: 'FLIPPED' })
    const bake = world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, second.after.flipId as string))
    expect(await bake.result()).toMatchObject({ status: 'LEFT' })

    expect(await world.pointer()).toMatchObject({ active: { tag: third.tag }, previous: { tag: baked.tag } })
    const { previous, bake: known } = (await knownPointer(world.pool, world.dataset)) ?? {}
    expect([previous?.tag, known?.flipId]).toEqual([baked.tag, third.after.flipId])
    const outcomes = (await flips(world.pool, world.dataset)).map(({ bakeOutcome }) => bakeOutcome)
    expect(outcomes).toEqual([null, 'cutShort', 'baked'])
    await declare(world, LONG)
    const rolledBack = await world.rollback()
    expect(rolledBack).toMatchObject({
      from: third.tag,
      to: baked.tag,
      summary: expect.stringContaining('every block is whole'),
    })
    await world.resume()
    const fourth = await untilFlipped(world)
    const left = world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, fourth.before.flipId as string))
    expect(await left.result()).toMatchObject({ status: 'LEFT' })
    await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).cancel()
    expect(await fourth.refresh).toMatchObject({ status: 'FLIPPED' })
    await expectSound(world)
  })

  it('a version that drifts from its source while it bakes is left; a first version stays, on hold', async (context) => {
    const world = await makeShop({ ...LONG, forMs: 20_000, drift: { everyMs: 1_000 } }, context)
    const refresh = world.refresh()
    await waitUntil('a flip', async () => (await world.store()).pointer.read().then((read) => read ?? undefined))
    // A change that was not captured.
    await world.pool.query('update products set price = 0; delete from snapflip.changelog')
    const outcome = await refresh
    expect(outcome).toMatchObject({ status: 'FAILED', summary: expect.stringContaining('keys differ from the source') })
    expect(await world.pointer()).toMatchObject({ active: { tag: outcome.tag }, hold: { by: 'snapflip' } })
  })

  it('a refresh that is cancelled or dies while its version bakes leaves the bake to itself', async (context) => {
    const world = await makeShop(LONG, context)
    const first = world.refresh()
    const handle = world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset))
    const flipped = await waitUntil('a bake', async () => {
      const read = await (await world.store()).pointer.read()
      const { step } = await handle.query<{ step: string }>('progress')
      return step === 'bake' ? read?.pointer : undefined
    })
    await handle.cancel()
    expect(await first).toMatchObject({ status: 'FLIPPED', summary: expect.stringContaining('cancelled in step bake') })
    expect((await world.pointer()).active).toEqual(flipped.active)
    const left = world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, flipped.flipId as string))
    expect((await left.describe()).status.name).toBe('RUNNING')

    // It is waited for all the same, by whoever comes next; nobody waits for one that nobody keeps.
    const waits = await world.refreshFailure()
    expect([failureCode(waits), failureMessage(waits)]).toEqual([
      'REFRESH_RUNNING',
      expect.stringContaining(left.workflowId),
    ])
    await left.terminate()
    const second = await untilFlipped(world)
    const bake = world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, second.after.flipId as string))
    await untilWatched(bake)
    second.refresh.catch(() => undefined)
    await handle.terminate()
    await count(world, second.after.flipId as string, second.tag, { errors: 400 })
    expect(await bake.result()).toMatchObject({ status: 'ROLLED_BACK' })
    expect((await world.pointer()).active).toEqual(flipped.active)
  })

  it('what a refresh flipped to that died before it read that back is read by the next, and baked; what does not read back is taken back, or held', async (context) => {
    let dies = true
    const world: World = await makeShop(LONG, context, {
      async run(operation, call) {
        const result = await call()
        if (dies && operation === 'pointer.swap' && Context.current().info.activityType === 'flip')
          await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).terminate()
        return result
      },
    })
    const flippedByDead = async () => {
      const known = (await flips(world.pool, world.dataset)).length
      await world.refreshFailure()
      return waitUntil('a flip', async () => {
        const all = await flips(world.pool, world.dataset)
        return all.length > known && all[0]?.outcome ? all[0] : undefined
      })
    }
    const flip = await flippedByDead()
    const bake = world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, flip.flipId))
    expect(failureMessage(await world.refreshFailure())).toContain(bake.workflowId)
    expect((await bake.describe()).status.name).toBe('RUNNING')
    await damageBlock(world, flip.to)
    expect(failureCode(await world.refreshFailure())).toBe('VERIFY_FAILED')
    expect(alertsOf(world)[0]).toMatchObject({ alert: 'VERIFY_FAILED', version: flip.to })
    expect(await world.pointer()).toMatchObject({ active: { tag: flip.to }, hold: { by: 'snapflip' } })
    expect(await openRefreshOf(world.pool, world.dataset)).toBeNull()

    dies = false
    await declare(world, SHORT)
    await world.resume()
    const whole = await world.refresh({ full: true })
    expect(whole).toMatchObject({ status: 'FLIPPED' })
    dies = true
    await world.pool.query('update products set price = price + 1')
    const worse = await flippedByDead()
    await damageBlock(world, worse.to)
    expect(failureCode(await world.refreshFailure())).toBe('VERIFY_FAILED')
    const { active, quarantined, hold } = await world.pointer()
    expect([active?.tag, quarantined, hold === null]).toEqual([whole.tag, [worse.to], false])
    expect(await openRefreshOf(world.pool, world.dataset)).toBeNull()
  })

  it('a bake that cannot go on, or that somebody cancels, is told and recorded as cut short', async (context) => {
    let blind = true
    let isCut = false
    const world = await makeShop(LONG, context, {
      async run(operation, call) {
        if (isCut && Context.current().info.activityType === 'drillBack')
          throw new SnapflipError('STORE_UNREACHABLE', 'a test')
        if (blind && operation === 'pointer.read' && Context.current().info.activityType === 'watchBake')
          throw new SnapflipError('STORE_UNSUITABLE', 'no right to read')
        return call()
      },
    })
    const first = await world.refresh()
    expect(first).toMatchObject({
      status: 'FLIPPED',
      summary: expect.stringContaining(`${first.tag} is not watched any more: no right to read`),
    })
    blind = false
    const second = await untilFlipped(world)
    const bake = world.client.workflow.getHandle(WORKFLOW_ID.bake(world.dataset, second.after.flipId as string))
    await untilWatched(bake)
    await bake.cancel()
    expect(await second.refresh).toMatchObject({ status: 'FLIPPED', active: second.tag })
    const told = alertsOf(world).filter(({ msg }) => String(msg).includes('nobody watches'))
    expect(told).toMatchObject([
      { alert: 'COMPENSATION_FAILED', version: first.tag },
      { alert: 'COMPENSATION_FAILED', version: second.tag },
    ])
    const entries = await historyEntries(world.pool, { dataset: world.dataset, kind: 'bake.unwatched' })
    expect(entries.map((entry) => entry.version)).toEqual([second.tag, first.tag])
    const outcomes = (await flips(world.pool, world.dataset)).map(({ bakeOutcome }) => bakeOutcome)
    expect(outcomes).toEqual(['cutShort', 'cutShort'])

    // No drill waits for what nobody watches; after it no rollback goes to that either.
    const { bake: mark } = await world.pointer()
    for (const noOp of [false, true]) {
      expect(await drilling(world, { noOp })).toMatchObject({ status: 'DONE', active: second.tag })
      expect(await world.pointer()).toMatchObject({ active: { tag: second.tag }, bake: { until: mark?.until } })
    }
    // Nor after one that another drill had to end.
    isCut = true
    const drill = drilling(world).catch((error: unknown) => error)
    await waitUntil('readers to be away', async () => (await world.pointer()).active?.tag === first.tag || undefined)
    await world.client.workflow.getHandle(WORKFLOW_ID.drill(world.dataset)).terminate()
    await drill
    isCut = false
    expect(await drilling(world, { end: true })).toMatchObject({ status: 'DONE', active: second.tag })
    expect(await world.pointer()).toMatchObject({ active: { tag: second.tag }, bake: { until: mark?.until } })
    await expectSound(world)
  })
})
