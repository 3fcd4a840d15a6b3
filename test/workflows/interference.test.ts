import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ApplicationFailure, Context } from '@temporalio/activity'
import pg from 'pg'
import { expect, it, onTestFinished } from 'vitest'
import type { ChangeDeps } from '../../activities/change-repaired.ts'
import { takeBack } from '../../activities/flip-back.ts'
import { holdDataset, resumeDataset } from '../../activities/hold.ts'
import { quarantineVersion, releaseVersion } from '../../activities/quarantine.ts'
import type { Config } from '../../schemas/config.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { activeHold } from '../../src/registry/active-hold.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { flips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { openRefreshOf } from '../../src/registry/open-refresh-of.ts'
import { quarantineOf } from '../../src/registry/quarantine.ts'
import { recordGates } from '../../src/registry/record-gates.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { versions } from '../../src/registry/versions.ts'
import { json, snapflip } from '../cli/run.ts'
import { type Between, faultyStore, type StoreOperation } from '../stores/faults.ts'
import { damageBlock, damagingFlips } from '../support/damage.ts'
import { testFolder } from '../support/services.ts'
import { around, makeWorld, type World } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

type Step = (call: () => Promise<unknown>) => Promise<unknown>

/** Once armed, what happens around the first such call of the store that this activity makes. */
function once(activity: string, operation: StoreOperation, step: Step): Between & { armed: boolean; met: boolean } {
  return {
    armed: false,
    met: false,
    async run(called, call) {
      const isHere = this.armed && called === operation && Context.current().info.activityType === activity
      if (!isHere) return call()
      this.armed = false
      this.met = true
      return step(call)
    },
  }
}

/** Refreshes with every price changed: no two versions have a value in common. */
async function refreshed(world: World): Promise<string> {
  await world.pool.query('update products set price = price + 1')
  const { status, tag } = await world.refresh()
  expect(status).toBe('FLIPPED')
  return tag as string
}

const alertsOf = (world: World) => world.logged.flatMap((line) => (line.alert === undefined ? [] : [line.alert]))

it('a rollback that comes while the new version is read back is not taken further back', async () => {
  const world = await makeWorld(SHOP)
  const during = once('verify', 'data.readManifest', async (call) => {
    await world.rollback({ reason: 'prices are off' })
    return call()
  })
  await world.worker(around(during))
  await refreshed(world)
  const good = await refreshed(world)
  await world.pool.query('update products set price = price + 1')
  during.armed = true
  const bad = await world.refresh()

  expect(during.met).toBe(true)
  expect(bad).toMatchObject({ status: 'FLIPPED', active: good, summary: expect.stringContaining(`left for ${good}`) })
  expect(await world.pointer()).toMatchObject({
    active: { tag: good },
    quarantined: [bad.tag],
    hold: { reason: 'prices are off' },
  })
  expect(alertsOf(world)).toEqual([])
})

it('a rollback that comes while a damaged version is read back is not taken further back', async () => {
  const world = await makeWorld(SHOP)
  const damaging = once('flip', 'pointer.swap', async (call) => {
    const result = await call()
    await damageBlock(world, (await world.pointer()).active?.tag as string)
    return result
  })
  // Pinned by now: what it reads is damaged, and the version is no longer active when that is told.
  const during = once('verify', 'data.read', async (call) => {
    await world.rollback({ reason: 'prices are off' })
    return call()
  })
  await world.worker(around({ run: (operation, call) => damaging.run(operation, () => during.run(operation, call)) }))
  await refreshed(world)
  const good = await refreshed(world)
  await world.pool.query('update products set price = price + 1')
  damaging.armed = true
  during.armed = true
  const bad = await world.refresh()

  expect(during.met).toBe(true)
  expect(bad).toMatchObject({ status: 'FLIPPED', active: good, summary: expect.stringContaining(`left for ${good}`) })
  expect(await world.pointer()).toMatchObject({ active: { tag: good }, quarantined: [bad.tag] })
  expect(alertsOf(world)).toEqual([])
})

it('a rollback that names what it leaves is refused when readers are elsewhere', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const first = await refreshed(world)
  const second = await refreshed(world)
  const failure = await world.rollback({ from: first }).catch((error: unknown) => error)
  expect(failureCode(failure)).toBe('CONFLICT')
  expect(await world.pointer()).toMatchObject({ active: { tag: second }, quarantined: [], hold: null })
  expect(await world.rollback({ from: second })).toMatchObject({ from: second, to: first })
  // Nor one that says nothing of it, and waited while readers came to where they are.
  await world.resume()
  const asked = { flipId: randomUUID(), actor: async () => 'ana', askedAt: new Date().toISOString() }
  const request = { dataset: world.dataset, reason: 'prices are off' }
  const looking = { tell: () => undefined, signal: new AbortController().signal }
  const third = await refreshed(world)
  const late = takeBack({ ...world.changeDeps, config: world.config }, { ...asked, request }, looking)
  await expect(late).rejects.toMatchObject({ code: 'CONFLICT', details: { active: third, from: first } })
  expect((await world.pointer()).active?.tag).toBe(third)
})

it('no number of bakes keeps a rollback back, nor does another that still reads its version whole', async () => {
  const world = await makeWorld(SHOP)
  const damage = damagingFlips(world)
  const moving = Promise.withResolvers<void>()
  const reading = Promise.withResolvers<void>()
  let readings = 0
  let baking = 0
  const beating = async (until: Promise<unknown>) => {
    const context = Context.current()
    const beat = setInterval(() => context.heartbeat(), 1_000)
    await until.finally(() => clearInterval(beat))
  }
  await world.worker(around(damage), {
    decorateActivities: (activities) => ({
      ...activities,
      async watchBake() {
        baking += 1
        await beating(Context.current().cancelled.catch(() => undefined))
        return { outcome: 'left', summary: 'cancelled' }
      },
      async flipBack(asked) {
        await beating(moving.promise)
        return activities.flipBack(asked)
      },
      async verifyRollback(asked) {
        if (readings++ === 0) await beating(reading.promise)
        return activities.verifyRollback(asked)
      },
    }),
  })
  const { dataset, config } = world
  const { taskQueue } = config.temporal
  const bakes = await Promise.all(
    Array.from({ length: 17 }, (_, n) =>
      world.client.workflow.start('bake', { workflowId: `bake-${n}:${dataset}`, taskQueue, args: [{ dataset }] }),
    ),
  )
  onTestFinished(async () => {
    moving.resolve()
    reading.resolve()
    for (const bake of bakes) await bake.terminate().catch(() => undefined)
  })
  await waitUntil('every bake', async () => baking === bakes.length || undefined)

  const oldest = await refreshed(world)
  const first = await refreshed(world)
  await refreshed(world)
  const byHand = world.rollback()
  const file = join((await testFolder()).path, 'snapflip.config.json')
  await writeFile(file, JSON.stringify(config))
  const again = (...more: string[]) =>
    snapflip(['rollback', dataset, '--reason', 'still off', '--json', '--config', file, ...more])
  // While it is about to move readers itself, another would have it go back from where that one took them.
  expect(json(await again('--to', oldest))).toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('It is at flip: taking'),
  })
  moving.resolve()
  await waitUntil(
    'a rollback',
    async () => ((await world.pointer()).active?.tag === first && readings > 0) || undefined,
  )
  // Two that ask for a step back mean the same one; who names a version means it.
  expect(json(await again())).toMatchObject({
    code: 'CONFLICT',
    message: expect.stringMatching(new RegExp(`--to takes them .* It is at verify: reading ${first} back`)),
  })
  expect(json(await again('--to', oldest))).toMatchObject({ status: 'ROLLED_BACK', from: first, to: oldest })
  const { events } = await world.client.workflow.getHandle(WORKFLOW_ID.rollbackBeside(dataset, oldest)).fetchHistory()
  const { input } = events?.[0]?.workflowExecutionStartedEventAttributes ?? {}
  expect(JSON.parse(Buffer.from(input?.payloads?.[0]?.data ?? []).toString())).toMatchObject({ from: first })
  await world.resume()
  await world.pool.query('update products set price = price + 1')
  damage.armed = true
  expect(await world.refresh()).toMatchObject({ status: 'ROLLED_BACK', active: oldest })
  expect(alertsOf(world)).toEqual(['VERIFY_FAILED'])
  reading.resolve()
  expect(await byHand).toMatchObject({
    status: 'ROLLED_BACK',
    to: first,
    summary: expect.stringContaining(`${first} was left for ${oldest} before it was read back`),
  })
})

it('taken back to a version that does not read back either, a refresh says where readers are', async () => {
  const world = await makeWorld(SHOP)
  let first = ''
  const damaging = once('flip', 'pointer.swap', async (call) => {
    const result = await call()
    await damageBlock(world, first)
    await damageBlock(world, (await world.pointer()).active?.tag as string)
    return result
  })
  await world.worker(around(damaging))
  first = await refreshed(world)
  await world.pool.query('update products set price = price + 1')
  damaging.armed = true
  const second = await world.refresh()

  expect(second).toMatchObject({ status: 'ROLLED_BACK', active: first })
  expect(second.summary).toContain(`readers are on ${first}`)
  expect(alertsOf(world)).toEqual(['VERIFY_FAILED', 'ROLLBACK_UNHEALTHY'])
  expect(world.logged.find((line) => line.alert === 'ROLLBACK_UNHEALTHY')?.msg).toContain(
    'There is no retained version',
  )
  expect((await world.pointer()).hold?.by).not.toBe('snapflip')
})

it('a rollback goes on when the refresh that asked for it is terminated', async () => {
  const world = await makeWorld(SHOP)
  const damaging = once('flip', 'pointer.swap', async (call) => {
    const result = await call()
    await damageBlock(world, (await world.pointer()).active?.tag as string)
    return result
  })
  const terminating = once('flipBack', 'pointer.swap', async (call) => {
    await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).terminate('a test')
    return call()
  })
  const between: Between = {
    run: (operation, call) => damaging.run(operation, () => terminating.run(operation, call)),
  }
  await world.worker(around(between))
  const first = await refreshed(world)
  await world.pool.query('update products set price = price + 1')
  damaging.armed = true
  terminating.armed = true
  await world.refreshFailure()

  const rollback = world.client.workflow.getHandle(WORKFLOW_ID.rollback(world.dataset))
  expect(await rollback.result()).toMatchObject({ status: 'ROLLED_BACK', to: first })
  expect((await world.pointer()).active?.tag).toBe(first)
})

it.each([
  ['and heard', true],
  ['and not heard in time', false],
])('cancelled at the last look before the flip %s, a refresh flips nothing', async (_title, heard) => {
  const world = await makeWorld(SHOP)
  const during = once('preflip', 'pointer.read', async (call) => {
    const cancelled = Context.current().cancelled.catch(() => undefined)
    await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).cancel()
    if (heard) await cancelled
    return call()
  })
  await world.worker(around(during))
  const first = await refreshed(world)
  await world.pool.query('update products set price = price + 1')
  during.armed = true
  const failure = await world.refreshFailure()
  expect((failure as Error).cause).toMatchObject({ name: 'CancelledFailure' })
  expect(await world.pointer()).toMatchObject({ active: { tag: first } })
  expect(await flips(world.pool, world.dataset)).toHaveLength(1)
})

it('a flip that was asked for and not made cannot come true after its refresh has failed', async () => {
  const world = await makeWorld(SHOP)
  const late: Array<() => Promise<unknown>> = []
  const paused = {
    armed: false,
    run: async (operation: StoreOperation, call: () => Promise<unknown>) => {
      const isHere = paused.armed && operation === 'pointer.swap' && Context.current().info.activityType === 'flip'
      if (!isHere) return call()
      late.push(call)
      throw ApplicationFailure.nonRetryable('a test: this attempt was paused')
    },
  }
  await world.worker(around(paused))
  const first = await refreshed(world)
  await world.pool.query('update products set price = price + 1')
  paused.armed = true
  await world.refreshFailure()
  paused.armed = false

  expect(late).not.toHaveLength(0)
  for (const swap of late) expect(await swap()).toBe(false)
  expect((await world.pointer()).active?.tag).toBe(first)
  expect(await flips(world.pool, world.dataset)).toMatchObject([{ outcome: 'refused' }, { outcome: 'confirmed' }])
  await refreshed(world)
})

it('a rollback that was asked for and not made cannot come true after it has failed', async () => {
  const world = await makeWorld(SHOP)
  const late: Array<() => Promise<unknown>> = []
  const paused = {
    run: async (operation: StoreOperation, call: () => Promise<unknown>) => {
      if (operation !== 'pointer.swap' || Context.current().info.activityType !== 'flipBack') return call()
      late.push(call)
      throw ApplicationFailure.nonRetryable('a test: this attempt was paused')
    },
  }
  await world.worker(around(paused))
  await refreshed(world)
  const second = await refreshed(world)
  await expect(world.rollback()).rejects.toThrow()
  expect(late).not.toHaveLength(0)
  for (const swap of late) expect(await swap()).toBe(false)
  expect(await world.pointer()).toMatchObject({ active: { tag: second }, hold: null, quarantined: [] })
  expect((await flips(world.pool, world.dataset))[0]).toMatchObject({ kind: 'rollback', outcome: 'refused' })
})

it('a rollback that was made by an attempt whose reply was lost is no failure', async () => {
  const world = await makeWorld(SHOP)
  /** Deaf once it has moved the pointer, until somebody settles that. */
  const deaf = { armed: false, made: false }
  const lost: Between = {
    async run(operation, call) {
      const { activityType } = Context.current().info
      if (activityType === 'settle') deaf.armed = false
      if (!deaf.armed || activityType !== 'flipBack') return call()
      const result = deaf.made ? null : await call()
      deaf.made ||= operation === 'pointer.swap'
      if (deaf.made) throw ApplicationFailure.nonRetryable('a test: nobody heard of it')
      return result
    },
  }
  await world.worker(around(lost))
  const first = await refreshed(world)
  const second = await refreshed(world)
  deaf.armed = true
  expect(await world.rollback()).toMatchObject({ from: second, to: first })
  expect(deaf).toEqual({ armed: false, made: true })
})

it('a hold lifted before its rollback was settled stays lifted, and the history says by whom', async () => {
  const world = await makeWorld(SHOP)
  const resuming = once('flipBack', 'pointer.swap', async (call) => {
    const result = await call()
    await world.resume()
    return result
  })
  await world.worker(around(resuming))
  await refreshed(world)
  await refreshed(world)
  resuming.armed = true
  await world.rollback()

  expect(resuming.met).toBe(true)
  expect((await world.pointer()).hold).toBeNull()
  expect(await activeHold(world.pool, world.dataset)).toBeNull()
  const kinds = (await historyEntries(world.pool, { dataset: world.dataset })).map((entry) => entry.kind)
  expect(kinds.slice(0, 2)).toEqual(['resume', 'rollback.confirmed'])
  await verifyHistory(world.pool)
})

it('a hold that only the store has is lifted with a history entry; of two persons the store follows whom the registry does', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const first = await refreshed(world)
  await refreshed(world)
  await world.hold()
  await world.pool.query('update snapflip.dataset_holds set lifted_at = now(), lifted_by = $1, lifted_reason = $1', [
    'a test',
  ])
  await world.resume()
  expect((await world.pointer()).hold).toBeNull()
  const [latest] = await historyEntries(world.pool, { dataset: world.dataset })
  expect(latest).toMatchObject({ kind: 'resume', actor: 'test' })

  const { dataset, changeDeps } = world
  const by = (name: string) => ({ dataset, by: name, reason: 'a look', tag: first })
  /** The first is made up to its write into the store; then the second, whole. */
  const interleaved = async (
    late: (deps: ChangeDeps) => Promise<unknown>,
    whole: (deps: ChangeDeps) => Promise<unknown>,
  ) => {
    let armed = true
    const store = faultyStore(await world.store(), {
      async run(operation, call) {
        if (armed && operation === 'pointer.swap') {
          armed = false
          await whole(changeDeps)
        }
        return call()
      },
    })
    await late({ ...changeDeps, store: async () => store })
    const registry = {
      hold: await activeHold(world.pool, dataset),
      isFree: (await quarantineOf(world.pool, dataset, first)) === null,
    }
    const { hold, quarantined } = await world.pointer()
    expect({ hold, isFree: !quarantined.includes(first) }).toEqual(registry)
    return { by: hold?.by, ...registry }
  }
  await world.hold('to be lifted')
  expect(
    await interleaved(
      (deps) => resumeDataset(deps, by('ana')),
      (deps) => holdDataset(deps, by('bo')),
    ),
  ).toMatchObject({ by: 'bo' })
  expect(
    await interleaved(
      (deps) => holdDataset(deps, by('ana')),
      (deps) => holdDataset(deps, by('cy')),
    ),
  ).toMatchObject({ by: 'cy' })
  expect(
    await interleaved(
      (deps) => holdDataset(deps, by('ana')),
      (deps) => resumeDataset(deps, by('bo')),
    ),
  ).toMatchObject({ hold: null })
  expect(
    await interleaved(
      (deps) => quarantineVersion(deps, by('ana')),
      (deps) => releaseVersion(deps, by('bo')),
    ),
  ).toMatchObject({ isFree: true })
  await quarantineVersion(changeDeps, by('ana'))
  expect(
    await interleaved(
      (deps) => releaseVersion(deps, by('ana')),
      (deps) => quarantineVersion(deps, by('bo')),
    ),
  ).toMatchObject({ isFree: false })
})

it('what cannot be retired after a flip is told', async () => {
  const world = await makeWorld(SHOP)
  const full = once('retire', 'leases.list', () => Promise.reject(new SnapflipError('STORE_UNSUITABLE', 'no leases')))
  await world.worker(around(full))
  full.armed = true
  const tag = await refreshed(world)
  expect((await world.pointer()).active?.tag).toBe(tag)
  expect(alertsOf(world)).toEqual(['COMPENSATION_FAILED'])
})

it('a manifest put late by an attempt whose seal was replaced makes room', async () => {
  const world = await makeWorld(SHOP)
  const strange = once('build', 'data.putManifest', async (call) => {
    const [latest] = await versions(world.pool, world.dataset)
    await (await world.store()).data.putManifest(latest?.tag as string, Buffer.from('of a paused attempt'))
    return call()
  })
  await world.worker(around(strange))
  strange.armed = true
  await refreshed(world)
  expect(strange.met).toBe(true)
  expect(await (await world.reader()).get('products', 7)).toBe(71)
})

it('a verdict recorded by an attempt that did not live to tell it stands', async () => {
  const world = await makeWorld(SHOP)
  const judging = once('gates', 'data.readManifest', async (call) => {
    const [latest] = await versions(world.pool, world.dataset)
    const open = await openRefreshOf(world.pool, world.dataset)
    const judged = {
      refreshId: open?.refreshId as string,
      tag: latest?.tag as string,
      manifestSha256: latest?.manifestSha256 as string,
    }
    await recordGates(world.pool, judged, [
      {
        gate: 'drift',
        index: 'products',
        verdict: 'reject',
        summary: 'the sample of the first attempt',
        actual: {},
        limit: {},
        sampleKeys: [],
      },
    ])
    return call()
  })
  await world.worker(around(judging))
  judging.armed = true
  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'REJECTED', active: null })
  expect(outcome.summary).toContain('the sample of the first attempt')
})

it("what PostgreSQL says of a row does not reach Temporal's history", async () => {
  const world = await makeWorld(SHOP)
  const refusal = () =>
    Object.assign(new pg.DatabaseError('invalid input syntax for type integer: "a row of ours"', 0, 'error'), {
      code: '22P02',
      severity: 'ERROR',
    })
  const failures = [refusal(), new SnapflipError('STORE_FULL', 'no room', {}, refusal())]
  await world.worker(
    around({
      run: async (operation, call) => {
        const failure = operation === 'writer.finish' ? failures.shift() : undefined
        if (failure !== undefined) throw failure
        return call()
      },
    }),
  )
  expect(failureCode(await world.refreshFailure())).toBe('STORE_FULL')
  expect(failures).toEqual([])
  const { events } = await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).fetchHistory()
  const told = JSON.stringify(events)
  expect(told).toContain('PostgreSQL refused a statement (22P02)')
  expect(told).not.toContain('a row of ours')
  expect(JSON.stringify(world.logged)).not.toContain('a row of ours')
})

it('a rollback does not wait for the builds of other datasets', async () => {
  const world = await makeWorld(SHOP)
  const { dataset, config, client } = world
  const definition = config.datasets[dataset] as Config['datasets'][string]
  const others = Array.from({ length: 18 }, (_, n) => `${dataset}x${n}`)
  world.config = { ...config, datasets: { ...config.datasets } }
  for (const other of others) {
    world.config.datasets[other] = definition
    await applyDefinition(world.pool, { dataset: other, definition })
  }
  const letGo = Promise.withResolvers<void>()
  let building = 0
  const blocking: Between = {
    async run(operation, call) {
      const id = operation === 'data.begin' ? Context.current().info.workflowExecution?.workflowId : undefined
      if (others.some((other) => id === WORKFLOW_ID.refresh(other))) {
        building++
        await letGo.promise
      }
      return call()
    },
  }
  await world.worker(around(blocking))
  const first = await refreshed(world)
  await refreshed(world)
  const refreshes = await Promise.all(
    others.map((other) =>
      client.workflow.start('refresh', {
        workflowId: WORKFLOW_ID.refresh(other),
        taskQueue: config.temporal.taskQueue,
        args: [{ dataset: other }],
      }),
    ),
  )
  await expect.poll(() => building, { timeout: 30_000 }).toBe(2)
  await expect
    .poll(async () => (await world.pool.query('select from snapflip.refresh_runs')).rowCount, { timeout: 30_000 })
    .toBe(2 + others.length)
  expect(await world.rollback()).toMatchObject({ to: first })
  expect(building).toBe(2)
  for (const refresh of refreshes) await refresh.terminate('the test is over')
  letGo.resolve()
})
