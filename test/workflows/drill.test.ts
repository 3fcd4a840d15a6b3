import { randomUUID } from 'node:crypto'
import { cp } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ApplicationFailure } from '@temporalio/activity'
import { expect, it, vi } from 'vitest'
import { breakGlass } from '../../activities/break-glass.ts'
import { pinDataset, unpinDataset } from '../../activities/pin.ts'
import { releaseVersion } from '../../activities/quarantine.ts'
import { type DrillOutcome, type FlipToOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'
import { open } from '../../src/index.ts'
import { openDrillOf } from '../../src/registry/drills.ts'
import { flips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { version } from '../../src/registry/version.ts'
import { openStore } from '../../src/stores/open.ts'
import { damageBlock } from '../support/damage.ts'
import { expectSound } from '../support/soundness.ts'
import type { ProcessFault } from '../support/worker-process.ts'
import { makeWorld, type World } from '../support/world.ts'

vi.setConfig({ maxConcurrency: 4, testTimeout: 180_000 })

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n from generate_series(1, 300) n`,
  dataset: { keep: 4, indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}
type OnFinished = (close: () => Promise<void>) => void

const refreshed = async (world: World): Promise<string> => {
  await world.pool.query('update products set price = price + 1')
  return (await world.refresh()).tag as string
}

function drilling(world: World, request: object = {}): Promise<DrillOutcome> {
  const { dataset, config } = world
  return world.client.workflow.execute<(request: object) => Promise<DrillOutcome>>('drill', {
    workflowId: WORKFLOW_ID.drill(dataset),
    taskQueue: config.temporal.taskQueue,
    args: [{ dataset, ...request }],
  })
}

const flipping = (world: World, to: string) =>
  world.client.workflow.execute<(request: object) => Promise<FlipToOutcome>>('flipTo', {
    workflowId: WORKFLOW_ID.flipTo(world.dataset),
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset: world.dataset, to, reason: 'it was the reader' }],
  })

const codeOf = async (work: Promise<unknown>) =>
  failureCode(await work.then(() => new Error('it did not fail')).catch((error: unknown) => error))

it('a drill takes readers to the version before and back, leaves neither hold nor quarantine, and records its times', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  expect(await codeOf(drilling(world))).toBe('CONFLICT')
  const first = await refreshed(world)
  expect(await codeOf(drilling(world))).toBe('CONFLICT')
  const second = await refreshed(world)
  const before = await world.pointer()
  const reader = await open(world.config.stores.main as string, world.dataset, { followLagMs: 50 })
  const seen: string[] = []
  reader.on('flip', ({ to }) => void seen.push(to.tag))
  expect(await reader.get('products', 1)).toBe(3)
  const outcome = await drilling(world, { reason: 'the monthly one' })
  await reader.close()

  expect(outcome).toMatchObject({ status: 'DONE', from: second, to: first, active: second })
  expect(outcome.timesMs).toMatchObject({ away: expect.any(Number), back: expect.any(Number) })
  expect(seen).toContain(first)
  const after = await world.pointer()
  expect(after).toMatchObject({
    active: before.active,
    previous: before.previous,
    freshAsOf: before.freshAsOf,
    hold: null,
    quarantined: [],
    epoch: { registry: before.epoch.registry + 2, breakGlass: 0 },
  })
  const ended = await historyEntries(world.pool, { dataset: world.dataset, kind: 'drill.ended' })
  expect(ended).toMatchObject([{ version: first, detail: { outcome: 'DONE', times: outcome.timesMs } }])
  expect((await flips(world.pool, world.dataset)).map(({ kind, to }) => ({ kind, to })).slice(0, 2)).toEqual([
    { kind: 'drill', to: second },
    { kind: 'drill', to: first },
  ])

  // Only the epoch rises.
  const noOp = await drilling(world, { noOp: true })
  expect(noOp).toMatchObject({ status: 'DONE', from: second, to: second, active: second })
  expect(await world.pointer()).toMatchObject({ active: before.active, previous: before.previous })
  // Whom an operator keeps elsewhere a drill moves nowhere, and says so.
  const until = new Date(Date.now() + 3_600_000).toISOString()
  const pin = { dataset: world.dataset, tag: first, until, by: 'ana', reason: 'a look' }
  await pinDataset(world.changeDeps, pin)
  expect((await drilling(world, { noOp: true })).summary).toBe(
    `${world.dataset} was flipped to ${second} again, which was active; readers stay on ${first}, where ana pinned them until ${until}`,
  )
  await unpinDataset(world.changeDeps, { dataset: world.dataset, by: 'ana', reason: 'seen' })
  // A rollback after it goes where it would have gone.
  expect(await world.rollback()).toMatchObject({ from: second, to: first })
  expect(await codeOf(drilling(world))).toBe('CONFLICT')
  expect(await openDrillOf(world.pool, world.dataset)).toBeNull()

  // Forward again, once nothing forbids it: not on hold, not while it is quarantined, and never back.
  expect(await codeOf(flipping(world, second))).toBe('VERSION_QUARANTINED')
  await releaseVersion(world.changeDeps, { dataset: world.dataset, tag: second, by: 'ana', reason: 'fine' })
  expect(await codeOf(flipping(world, second))).toBe('ON_HOLD')
  await world.resume()
  // Nor where anything of it was lost since.
  const mend = await damageBlock(world, second)
  const lost = await flipping(world, second).catch((error: unknown) => error)
  expect([failureCode(lost), failureMessage(lost)]).toEqual([
    'PREFLIP_REFUSED',
    expect.stringContaining('expected every block as it was sealed'),
  ])
  await mend()
  expect(await flipping(world, second)).toMatchObject({ status: 'FLIPPED', from: first, to: second })
  expect(await world.pointer()).toMatchObject({ active: { tag: second }, previous: { tag: first } })
  expect(await codeOf(flipping(world, first))).toBe('CONFLICT')
  expect((await version(world.pool, world.dataset, second)).state).toBe('active')
  await refreshed(world)
  await expectSound(world)
})

const KILLS: readonly Omit<ProcessFault, 'how'>[] = [
  { at: 'activity.drillAway', when: 'after' },
  { at: 'activity.awaitAdoption', when: 'before' },
]

it.concurrent.for(KILLS)(
  'a drill whose worker is killed $when $at brings readers back all the same',
  async (kill, { onTestFinished, expect }) => {
    const world = await makeWorld({ ...SHOP, onFinished: onTestFinished as OnFinished })
    const victim = await world.workerProcess({ ...kill, how: 'SIGKILL' })
    const first = await refreshed(world)
    const second = await refreshed(world)
    await victim.arm()
    const drill = drilling(world)
    expect(await victim.ended()).toBe('SIGKILL')
    expect(await world.pointer()).toMatchObject({ active: { tag: first } })
    // No refresh builds upon a version that readers are on for a moment.
    await world.worker()
    expect(await drill).toMatchObject({ active: second })
    expect(await world.pointer()).toMatchObject({ active: { tag: second }, hold: null, quarantined: [] })
    await refreshed(world)
    await expectSound(world)
  },
)

it.concurrent('a drill that cannot bring readers back is told; one whose readers cannot be counted is over all the same', async ({
  onTestFinished,
  expect,
}) => {
  const world = await makeWorld({ ...SHOP, onFinished: onTestFinished as OnFinished })
  const failing = { drillBack: 1, awaitAdoption: 0, flipForward: 0, settle: 0 }
  const fail = (name: keyof typeof failing) => {
    if (--failing[name] === 0) throw ApplicationFailure.nonRetryable(`a fault of ${name}`, 'STORE_UNSUITABLE')
  }
  await world.worker(undefined, {
    decorateActivities: (activities) => ({
      ...activities,
      async drillBack(asked) {
        fail('drillBack')
        return activities.drillBack(asked)
      },
      async awaitAdoption(asked) {
        fail('awaitAdoption')
        return activities.awaitAdoption(asked)
      },
      async flipForward(asked) {
        fail('flipForward')
        return activities.flipForward(asked)
      },
      async settle(asked) {
        fail('settle')
        return activities.settle(asked)
      },
    }),
  })
  const first = await refreshed(world)
  const second = await refreshed(world)
  const left = await drilling(world).catch((error: unknown) => error)
  expect([failureCode(left), failureMessage(left)]).toEqual([
    'STORE_UNSUITABLE',
    expect.stringMatching(/could not be ended: a fault of drillBack.*`snapflip drill \w+ --end` brings readers back/),
  ])
  expect(world.logged.filter(({ alert }) => alert !== undefined)).toMatchObject([
    { alert: 'COMPENSATION_FAILED', msg: expect.stringContaining('--end') },
  ])
  expect((await world.pointer()).active?.tag).toBe(first)
  expect(await drilling(world, { end: true })).toMatchObject({ status: 'DONE', active: second })

  // The second count is that of the way back.
  failing.awaitAdoption = 2
  expect(failureMessage(await drilling(world).catch((error: unknown) => error))).toContain(`readers are on ${second}`)
  expect((await world.pointer()).active?.tag).toBe(second)
  const third = await refreshed(world)

  // Nor does a flip forward hide what failed behind what could not be read after it.
  await world.rollback()
  await releaseVersion(world.changeDeps, { dataset: world.dataset, tag: third, by: 'ana', reason: 'fine' })
  await world.resume()
  Object.assign(failing, { flipForward: 1, settle: 1 })
  expect(failureMessage(await flipping(world, third).catch((error: unknown) => error))).toMatch(
    new RegExp(`^a fault of flipForward Whether .* went forward to ${third} is not known.*: a fault of settle See`),
  )
  expect(await flipping(world, third)).toMatchObject({ status: 'FLIPPED', from: second, to: third })
  await expectSound(world)
})

it.concurrent('a drill whose workflow was terminated keeps refreshes out until it is ended', async ({
  onTestFinished,
  expect,
}) => {
  const world = await makeWorld({ ...SHOP, onFinished: onTestFinished as OnFinished })
  const victim = await world.workerProcess({ at: 'activity.drillAway', when: 'after', how: 'SIGKILL' })
  const first = await refreshed(world)
  const second = await refreshed(world)
  await victim.arm()
  const drill = drilling(world).catch((error: unknown) => error)
  await victim.ended()
  await world.client.workflow.getHandle(WORKFLOW_ID.drill(world.dataset)).terminate()
  await drill
  await world.worker()
  const refused = await world.refreshFailure()
  expect(failureCode(refused)).toBe('REFRESH_RUNNING')
  expect(failureMessage(refused)).toContain(`snapflip drill ${world.dataset} --end`)
  expect(await codeOf(drilling(world))).toBe('REFRESH_RUNNING')
  expect(await codeOf(flipping(world, second))).toBe('REFRESH_RUNNING')
  // Whoever takes readers back meanwhile is not taken to what they were on before the drill: that may be why.
  expect((await world.pointer()).previous).toBeNull()
  expect(await knownPointer(world.pool, world.dataset)).toMatchObject({ active: { tag: first }, previous: null })
  expect(await codeOf(world.rollback())).toBe('UNKNOWN_VERSION')
  const asked = { flipId: randomUUID(), to: null, by: 'ana', reason: 'bad prices', at: new Date().toISOString() }
  const looking = { dataset: world.dataset, tell: () => undefined, signal: new AbortController().signal }
  const glass = breakGlass(await world.changeDeps.store(world.dataset), { ...asked, ...looking })
  await expect(glass).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' })
  // Forward goes the drill itself: it is said how, whatever is down.
  const forward = await world.rollback({ to: second }).catch((error: unknown) => error)
  expect([failureCode(forward), failureMessage(forward)]).toEqual([
    'CONFLICT',
    expect.stringMatching(/for a drill by .* back to v.* by itself.*`snapflip drill .* --end`/),
  ])
  expect(await world.pointer()).toMatchObject({ active: { tag: first }, hold: null, quarantined: [] })
  // In the store alone, as with all services down, the name suffices: nothing else would bring readers back from a drill.
  const cut = join(dirname(world.workDir), 'cut-off')
  await cp(new URL(world.config.stores.main as string).pathname, cut, { recursive: true })
  const alone = await openStore(`file:${cut}`, { dataset: world.dataset })
  expect(await breakGlass(alone, { ...asked, to: second, ...looking })).toMatchObject({ from: first, to: second })
  expect((await alone.pointer.read())?.pointer).toMatchObject({ active: { tag: second }, quarantined: [first] })
  await alone.close()
  expect(await drilling(world, { end: true })).toMatchObject({ status: 'DONE', active: second })
  expect(await codeOf(drilling(world, { end: true }))).toBe('CONFLICT')
  expect((await version(world.pool, world.dataset, first)).state).toBe('retained')
  await refreshed(world)
  await expectSound(world)
})
