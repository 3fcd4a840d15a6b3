import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { ApplicationFailure } from '@temporalio/common'
import { MockActivityEnvironment } from '@temporalio/testing'
import { expect, it } from 'vitest'
import { afterFailure } from '../../activities/after-failure.ts'
import type { Deps } from '../../activities/deps.ts'
import { flipBack } from '../../activities/flip-back.ts'
import { planFlipTo } from '../../activities/flip-to.ts'
import { madeUpFor } from '../../activities/made-up-for.ts'
import { preflip } from '../../activities/preflip.ts'
import { retire } from '../../activities/retire.ts'
import { somethingNew } from '../../activities/something-new.ts'
import { watchBake } from '../../activities/watch-bake.ts'
import { windowClosed } from '../../activities/window.ts'
import { type DatasetDefinition, datasetSchema } from '../../schemas/config.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { bakePolicySchema } from '../../schemas/watch.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { flips } from '../../src/registry/flips.ts'
import { report } from '../stores/reports.ts'
import { testFolder } from '../support/services.ts'
import { makeWorld } from '../support/world.ts'

const HOUR_MS = 3_600_000
const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }
const WATCH = { forMs: 1_000, minimumReads: 500, drift: { sample: 0 }, whileBaking: 'end' } as const
const STRICT = bakePolicySchema.parse(WATCH)
const LENIENT = bakePolicySchema.parse({ ...WATCH, max: { errors: 0.9 }, maxWorse: { errors: 0.9 } })

it("limits and rules are those that were applied, or a refresh's own, whatever an edited file of the worker says", async () => {
  const world = await makeWorld({
    schema:
      'create table items (id integer primary key, n integer not null); insert into items select n, n from generate_series(1, 100) n',
    dataset: {
      indexes,
      bake: STRICT,
      keep: 10,
      schedule: { continuous: { atMostEveryMs: 123 }, jitterMs: HOUR_MS },
      retries: { attempts: 3, initialMs: 7 },
    },
    furtherStores: { archive: `file:${join((await testFolder()).path, 'archive')}` },
  })
  const { dataset, config } = world
  let deps = {} as Deps
  // What becomes of the further stores cannot even be recorded.
  let isAstray = false
  const astray = () => Promise.reject(ApplicationFailure.nonRetryable('a fault of the test'))
  const rollbackEvents = async () =>
    (await world.client.workflow.getHandle(WORKFLOW_ID.rollback(dataset)).fetchHistory()).events ?? []
  /** By the workflow, after both have failed: it took its turn. */
  const heard = async () => {
    const events = await rollbackEvents()
    const failed = events.filter((event) => event.activityTaskFailedEventAttributes)
    const since = failed.length < 2 ? [] : events.slice(events.indexOf(failed[1] as (typeof events)[number]))
    return since.find((event) => event.workflowTaskCompletedEventAttributes ?? event.workflowTaskFailedEventAttributes)
  }
  await world.worker(
    (plain) => {
      deps = { ...plain, starter: async () => ({ identity: 'a test', parents: [], schedule: null }) }
      return plain
    },
    {
      decorateActivities: (all) => ({
        ...all,
        // Watched here alone.
        watchBake: async () => ({ outcome: 'left', summary: 'a test' }),
        follow: (asked) => (isAstray ? astray() : all.follow(asked)),
        degrade: (asked) => (isAstray ? astray() : all.degrade(asked)),
        async verifyRollback(asked) {
          if (isAstray) await waitUntil('the workflow to hear that no store follows', heard)
          return all.verifyRollback(asked)
        },
      }),
    },
  )
  const tags: string[] = []
  for (let n = 0; n < 5; n++) tags.push((await world.refresh({ full: true })).tag as string)
  const [first, second, third, fourth, fifth] = tags as [string, string, string, string, string]
  const hour = (ahead: number) => `${String((new Date().getUTCHours() + ahead + 24) % 24).padStart(2, '0')}:00`
  const edited = (declared: object): Deps => {
    const file = datasetSchema.parse({ ...declared, indexes, stores: ['main'], keep: 2, retireAfterMs: 0 })
    return { ...deps, config: { ...config, datasets: { [dataset]: file } } }
  }
  const closed = edited({ windows: { open: [{ from: hour(2), to: hour(3) }] } })
  const run = <Asked, Answer>(step: (asked: Asked) => Promise<Answer>, asked: Asked): Promise<Answer> =>
    new MockActivityEnvironment().run(step, asked)

  expect((await run(retire(closed), { dataset })).retired).toEqual([])
  expect(await run(windowClosed(closed), { dataset, tag: fifth })).toBeNull()
  const failed = { dataset, code: 'STORE_UNREACHABLE' as const, message: 'a test', attempt: 1 }
  expect(await run(afterFailure(closed), failed)).toEqual({ retryInMs: 7 })
  const down = { query: () => Promise.reject(new Error('a test')) } as unknown as Deps['pool']
  const alone = { ...edited({ retries: { attempts: 3, initialMs: 9 } }), pool: down }
  expect(await run(afterFailure(alone), failed)).toEqual({ retryInMs: 9 })
  expect(await run(madeUpFor(closed), { dataset, lateMs: HOUR_MS })).toEqual({ reason: null })
  await world.pool.query('update items set n = 0 where id = 1')
  expect(await run(somethingNew(closed), { dataset, since: null })).toMatchObject({ atMostEveryMs: 123 })

  // Half of what is read fails: too much as that refresh was declared, and not by what is declared since.
  const unlimited = edited({ bake: LENIENT })
  const definition = config.datasets[dataset] as DatasetDefinition
  const { approval } = datasetSchema.parse({ ...definition, approval: { when: 'always' } })
  Object.assign(definition, { bake: LENIENT, approval })
  await world.apply()
  const failing = async (tag: string) => {
    const flipId = (await world.pointer()).flipId as string
    const { counters } = await world.store()
    const at = new Date().toISOString()
    for (const readerId of ['a', 'b', 'c'])
      await counters.put(report({ watchId: flipId, tag, readerId, reads: 500, errors: 250, since: at, at }))
    return { dataset, flipId, tag }
  }
  const beyond = await run(watchBake(unlimited), await failing(fifth)).catch((error: unknown) => error)
  expect(failureCode(beyond)).toBe('BAKE_FAILED')

  // Where stores are is the file's to say: what it does not name is not followed, and stops no rollback.
  const { stores } = definition
  Object.assign(definition, { stores: ['main'] })
  expect(await world.rollback({ to: fourth })).toMatchObject({ status: 'ROLLED_BACK' })
  Object.assign(definition, { stores })
  expect((await world.pointer('archive')).active?.tag).toBe(fifth)
  isAstray = true
  const untold = await world.rollback({ to: third }).catch((error: unknown) => error)
  expect(failureMessage(untold)).toContain(`is back from ${fourth} at ${third}`)
  expect((await rollbackEvents()).filter((event) => event.workflowTaskFailedEventAttributes)).toEqual([])

  // A rollback and a flip forward belong to no refresh.
  const asked = { request: { dataset, reason: 'a test', to: first }, workflowId: 'a test', runId: 'a test' }
  const back = await run(flipBack(closed), { ...asked, flipId: randomUUID() })
  expect(back).toMatchObject({ to: first, bake: LENIENT })
  expect((await flips(world.pool, dataset))[0]?.bakeUntil).toBeInstanceOf(Date)
  const strict = edited({ bake: { ...STRICT, max: { errors: 0 } } })
  expect(await run(watchBake(strict), await failing(first))).toMatchObject({ outcome: 'baked' })
  const forward = { ...asked, request: { ...asked.request, to: second } }
  const { from, version, bake } = await run(planFlipTo(closed), forward)
  expect(bake).toEqual(LENIENT)
  const last = run(preflip(closed), { dataset, from, version, isAgain: true }).catch((error: Error) => error.message)
  expect(await last).toContain('expected an approval by which readers came to be on it')
})
