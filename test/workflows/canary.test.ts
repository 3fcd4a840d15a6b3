import { setTimeout as sleep } from 'node:timers/promises'
import { ApplicationFailure, Context } from '@temporalio/activity'
import { describe, expect, it, vi } from 'vitest'
import type { ConfigInput } from '../../schemas/config.ts'
import type { CounterReport } from '../../schemas/counters.ts'
import type { VersionRef } from '../../schemas/pointer.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { canaryPolicySchema } from '../../schemas/watch.ts'
import { windowsSchema } from '../../schemas/windows.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import type { CanaryChange } from '../../src/core/pointer.ts'
import { watchesQueue } from '../../src/core/task-queues.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { openCanary } from '../../src/registry/canaries.ts'
import { gateResults } from '../../src/registry/gate-results.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { hold } from '../../src/registry/hold.ts'
import { version } from '../../src/registry/version.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { progressQuery } from '../../workflows/steps.ts'
import type { Between } from '../stores/faults.ts'
import { report } from '../stores/reports.ts'
import { expectSound } from '../support/soundness.ts'
import { around, makeWorld, type World, type WorldOptions } from '../support/world.ts'

type Declared = NonNullable<ConfigInput['datasets'][string]>

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

/** They mostly wait. */
vi.setConfig({ maxConcurrency: 4, testTimeout: 120_000 })

type Finishing = { onTestFinished: (close: () => void | Promise<void>) => unknown }

/** A shop with a first version, and a canary for every one that follows. */
async function makeShop(canary: Declared['canary'], { onTestFinished }: Finishing, between?: Between): Promise<World> {
  const onFinished = onTestFinished as NonNullable<WorldOptions['onFinished']>
  const world = await makeWorld({ ...SHOP, dataset: { ...SHOP.dataset, canary }, onFinished })
  await world.worker(between && around(between))
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  return world
}

/** A refresh with every price changed, once readers may answer from its version. */
async function untilCanary(world: World, after: string | null = null) {
  await world.pool.query('update products set price = price + 1')
  const refresh = world
    .refresh()
    .catch((error: unknown) => ({ failed: failureCode(error), status: null, tag: null, summary: '' }))
  const { candidate, active } = await waitUntil('a canary', async () => {
    const pointer = await world.pointer()
    return pointer.candidate === null || pointer.candidate.version.tag === after ? undefined : pointer
  })
  if (candidate === null || active === null) throw new Error('the canary ended at once')
  return { refresh, candidate, tags: { candidate: candidate.version.tag, active: active.tag } }
}

/** Readers report: `n` on each side, those on the candidate's with counts of their own. */
async function count(
  world: World,
  { candidate, tags }: Awaited<ReturnType<typeof untilCanary>>,
  counts: ReadonlyArray<Partial<CounterReport>>,
): Promise<void> {
  const { counters } = await world.store()
  const at = new Date().toISOString()
  const put = (side: 'active' | 'candidate', fields: Partial<CounterReport>) =>
    counters.put(report({ watchId: candidate.canaryId, side, tag: tags[side], reads: 500, since: at, at, ...fields }))
  for (const [n, own] of counts.entries()) {
    await put('candidate', { readerId: `c${n}`, ...own })
    await put('active', { readerId: `a${n}` })
  }
}

const CANARY = { share: 0.5, forMs: 4_000, minimumReads: 500 } as const
const ENDLESS = { ...CANARY, forMs: 40_000 }

describe.concurrent('a canary', () => {
  it('a candidate that is no worse for its readers is flipped to', async (context) => {
    const world = await makeShop(CANARY, context)
    const canary = await untilCanary(world)
    // On no slot that a rollback needs.
    const queueOf = async () => {
      const { events } = await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).fetchHistory()
      const asked = events?.map(({ activityTaskScheduledEventAttributes: scheduled }) => scheduled)
      return asked?.find((scheduled) => scheduled?.activityType?.name === 'watchCanary')?.taskQueue?.name ?? undefined
    }
    const queue = await waitUntil('the watch', queueOf)
    expect(queue).toBe(watchesQueue(world.config.temporal.taskQueue))
    expect(await version(world.pool, world.dataset, canary.tags.candidate)).toMatchObject({ state: 'candidate' })
    expect(canary.candidate).toMatchObject({ share: 0.5 })
    await count(world, canary, [{}, {}, { misses: 3 }])
    const outcome = await canary.refresh
    expect(outcome).toMatchObject({ status: 'FLIPPED', tag: canary.tags.candidate })
    expect(await world.pointer()).toMatchObject({ active: { tag: outcome.tag }, candidate: null })
    const results = await gateResults(world.pool, world.dataset, canary.tags.candidate)
    expect(results.at(-1)).toMatchObject({
      gate: 'canary',
      verdict: 'pass',
      actual: { reads: 1500, readers: 3, look: 20 },
    })
    await expectSound(world)
  })

  it('a candidate that most of its readers miss keys in is refused before its time is over, and readers are back', async (context) => {
    const world = await makeShop(ENDLESS, context)
    const canary = await untilCanary(world)
    await count(world, canary, [{ misses: 200 }, { misses: 250 }, {}])
    const outcome = await canary.refresh
    expect(outcome).toMatchObject({ status: 'REJECTED', summary: expect.stringContaining('misses') })
    expect(await world.pointer()).toMatchObject({ active: { tag: canary.tags.active }, candidate: null })
    expect(await version(world.pool, world.dataset, canary.tags.candidate)).toMatchObject({ state: 'rejected' })
    const result = (await gateResults(world.pool, world.dataset, canary.tags.candidate)).at(-1)
    expect(result).toMatchObject({ gate: 'canary', verdict: 'reject', actual: { missesReaders: 2, missesBefore: 0 } })
    expect(result?.actual.look).toBeLessThan(20)
    const entries = await historyEntries(world.pool, { dataset: world.dataset })
    expect(entries.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['canary.begun', 'canary.refused']))
    await expectSound(world)
  })

  it('a single reader votes no candidate out, whatever it counts', async (context) => {
    const world = await makeShop(CANARY, context)
    const canary = await untilCanary(world)
    await count(world, canary, [{ reads: 1e6, misses: 1e6, errors: 1e6, bad: 1e6 }, {}, {}])
    expect(await canary.refresh).toMatchObject({ status: 'FLIPPED' })
    const result = (await gateResults(world.pool, world.dataset, canary.tags.candidate)).at(-1)
    expect(result).toMatchObject({ gate: 'canary', verdict: 'warn', summary: expect.stringContaining('minority') })
  })

  it('without readers a sample of keys is read on both versions', async (context) => {
    const world = await makeShop(CANARY, context)
    const good = await untilCanary(world)
    expect(await good.refresh).toMatchObject({ status: 'FLIPPED' })
    const passed = (await gateResults(world.pool, world.dataset, good.tags.candidate)).at(-1)
    expect(passed).toMatchObject({ gate: 'canary', verdict: 'pass', actual: { keys: 300, missingOnCandidate: 0 } })

    // Too small a loss for the gates, and more than the canary lets pass.
    await world.pool.query('delete from products where id <= 20')
    const bad = await untilCanary(world)
    expect(await bad.refresh).toMatchObject({ status: 'REJECTED' })
    const refused = (await gateResults(world.pool, world.dataset, bad.tags.candidate)).at(-1)
    expect(refused).toMatchObject({ gate: 'canary', verdict: 'reject', actual: { missingOnCandidate: 20 } })
    expect(refused?.sampleKeys).toHaveLength(10)
  })

  it('a canary that is only probed shows no reader its candidate', async (context) => {
    const world = await makeShop({ probe: { only: true } }, context)
    await world.pool.query('update products set price = price + 1')
    const { epoch } = await world.pointer()
    expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
    // The canary's number was issued, and no pointer written with it: the flip's is the next.
    expect((await world.pointer()).epoch.registry).toBe(epoch.registry + 2)
  })

  it('a cancelled refresh, a hold, a rollback, the refresh after one that died, also where it may not begin, and a worker each end the canary', async (context) => {
    const world = await makeShop({ probe: { only: true } }, context)
    await world.refresh({ full: true })
    Object.assign(world.config.datasets[world.dataset] as object, { canary: canaryPolicySchema.parse(ENDLESS) })
    await world.apply()
    const cancelled = await untilCanary(world)
    await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).cancel()
    await cancelled.refresh
    expect((await world.pointer()).candidate).toBeNull()
    expect((await version(world.pool, world.dataset, cancelled.tags.candidate)).state).toBe('swept')

    const held = await untilCanary(world)
    await world.hold()
    expect(await held.refresh).toMatchObject({ failed: 'ON_HOLD' })
    expect((await world.pointer()).candidate).toBeNull()
    await world.resume()

    const left = await untilCanary(world)
    await world.rollback()
    expect(await left.refresh).toMatchObject({ status: null })
    expect(await world.pointer()).toMatchObject({ candidate: null, quarantined: [left.tags.active] })
    await world.resume()

    const alone = await untilCanary(world)
    await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).terminate()
    await alone.refresh
    // No refresh comes that would: the next one waits for its window.
    const inHours = (hours: number) => `${String((new Date().getUTCHours() + hours) % 24).padStart(2, '0')}:00`
    const windows = windowsSchema.parse({ open: [{ from: inHours(2), to: inHours(3) }], outside: 'wait' })
    Object.assign(world.config.datasets[world.dataset] as object, { windows })
    await world.apply()
    const waits = world.refresh().catch((error: unknown) => error)
    const waiting = world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset))
    await waitUntil('a refresh that waits', async () =>
      (await waiting.query(progressQuery)).summary.includes('waits: its windows are closed') ? true : undefined,
    )
    const looks = await world.worker(undefined, { lookEveryMs: 100 })
    await waitUntil('the end of the canary', async () =>
      (await openCanary(world.pool, world.dataset)) === null ? true : undefined,
    )
    expect((await world.pointer()).candidate).toBeNull()
    looks.shutdown()
    await looks.run
    await waiting.cancel()
    expect(await waits).toMatchObject({ cause: { name: 'CancelledFailure' } })
    Object.assign(world.config.datasets[world.dataset] as object, { windows: windowsSchema.parse({}) })
    await world.apply()

    const good = await untilCanary(world, alone.tags.candidate)
    await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).terminate()
    // Nobody compensated: readers are still on its candidate when the next refresh begins.
    expect((await world.pointer()).candidate).not.toBeNull()
    // Also one that may not begin: here the hold did not come to the pointer.
    await hold(world.pool, { dataset: world.dataset, by: 'ana', reason: 'a test' })
    expect(failureCode(await world.refreshFailure())).toBe('ON_HOLD')
    expect((await world.pointer()).candidate).toBeNull()
    expect(await version(world.pool, world.dataset, good.tags.candidate)).toMatchObject({ state: 'sealed' })
    await world.resume()
    const next = await untilCanary(world, good.tags.candidate)
    await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).cancel()
    await next.refresh
    await expectSound(world)
  })

  it('whose refresh fails is over for its readers at once, though neither the registry nor the end of the refresh can be written', async (context) => {
    const world = await makeWorld({
      ...SHOP,
      dataset: { ...SHOP.dataset, canary: ENDLESS },
      onFinished: context.onTestFinished as NonNullable<WorldOptions['onFinished']>,
    })
    let isDown = false
    await world.worker(
      (deps) => ({
        ...deps,
        pool: new Proxy(deps.pool, {
          get(pool, name) {
            if (isDown) throw new SnapflipError('POSTGRES_UNREACHABLE', 'a test')
            const value = Reflect.get(pool, name)
            return typeof value === 'function' ? value.bind(pool) : value
          },
        }),
      }),
      {
        decorateActivities: (activities) => ({
          ...activities,
          watchCanary: async () => {
            isDown = true
            throw ApplicationFailure.nonRetryable('a test', 'CORRUPT')
          },
          finish: async (end) =>
            end.status === 'FAILED'
              ? Promise.reject(ApplicationFailure.nonRetryable('a test'))
              : activities.finish(end),
        }),
      },
    )
    await world.refresh()
    await world.pool.query('update products set price = price + 1')
    const failure = world.refreshFailure()
    await waitUntil('readers to be back', async () =>
      isDown && (await world.pointer()).candidate === null ? true : undefined,
    )
    isDown = false
    expect(failureCode(await failure)).toBe('CORRUPT')
    const { rows } = await world.pool.query('select outcome from snapflip.canaries')
    expect(rows).toEqual([{ outcome: 'ended' }])
    const asked = await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).fetchHistory()
    const names = asked.events?.map((event) => event.activityTaskScheduledEventAttributes?.activityType?.name)
    expect(names?.filter((name) => name).slice(-4)).toEqual(['endCanary', 'settle', 'finish', 'discard'])
  })

  it('that was given up before it began does not begin later', async (context) => {
    const world = await makeShop(
      ENDLESS,
      context,
      // Another flip comes first, so it seems, once the canary was intended.
      {
        async run(operation, call) {
          if (operation !== 'pointer.swap' || Context.current().info.activityType !== 'beginCanary') return call()
          throw new SnapflipError('CONFLICT', 'a test')
        },
      },
    )
    const { active, epoch } = await world.pointer()
    await world.pool.query('update products set price = price + 1')
    expect(failureCode(await world.refreshFailure())).toBe('CONFLICT')
    const { rows } = await world.pool.query('select id, tag, epoch::integer, salt, outcome from snapflip.canaries')
    expect(rows).toMatchObject([{ outcome: 'ended', epoch: epoch.registry + 1 }])
    // The attempt was only paused.
    const late: CanaryChange = {
      kind: 'canary',
      canaryId: rows[0].id,
      expected: { tag: active?.tag ?? null, epoch },
      version: { ...(active as VersionRef), tag: 'v20260518-99' },
      share: 0.5,
      salt: 's',
      since: new Date().toISOString(),
      epoch: { registry: rows[0].epoch, breakGlass: 0 },
    }
    const begun = changePointer((await world.store()).pointer, late, { dataset: world.dataset })
    await expect(begun).rejects.toMatchObject({ code: 'SUPERSEDED' })
  })

  it('takes more readers step by step, each in the history', async (context) => {
    const world = await makeShop({ ...CANARY, forMs: 10_000, ramp: [0.6, 0.7] }, context)
    const canary = await untilCanary(world)
    await count(world, canary, [{}, {}])
    const shares = new Set<number>()
    const finished = canary.refresh.then(() => true)
    while (!(await Promise.race([finished, sleep(100, false)])))
      shares.add((await world.pointer()).candidate?.share ?? 0)
    expect([...shares].filter((share) => share > 0)).toEqual([0.5, 0.6, 0.7])
    const entries = await historyEntries(world.pool, { dataset: world.dataset, kind: 'canary.ramped' })
    expect(entries.map(({ detail }) => detail.to)).toEqual([0.7, 0.6])
  })
})
