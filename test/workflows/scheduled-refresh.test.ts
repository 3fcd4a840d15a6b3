import { expect, it } from 'vitest'
import { type ScheduledOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { failureCode } from '../../src/core/failure.ts'
import { makeWorld, type World } from '../support/world.ts'

const SCHEMA = `create table items (id integer primary key, n integer not null);
  insert into items select g, g from generate_series(1, 10) g`
const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }

/** As the schedule starts it: under an id with the time in it. */
function scheduled(world: World, at: string): Promise<ScheduledOutcome> {
  return world.client.workflow.execute('scheduledRefresh', {
    workflowId: `${WORKFLOW_ID.scheduled(world.dataset)}-${at}`,
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset: world.dataset }],
  }) as Promise<ScheduledOutcome>
}

it('a scheduled run beside an open refresh is skipped, and the refresh goes on', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes } })
  const arrived = Promise.withResolvers<void>()
  const gate = Promise.withResolvers<void>()
  await world.worker((deps) => ({
    ...deps,
    builder: async () => {
      arrived.resolve()
      await gate.promise
      return deps.builder()
    },
  }))
  const refresh = world.refresh()
  await arrived.promise
  expect(await scheduled(world, '2026-05-18T02:00:00Z')).toEqual({
    status: 'SKIPPED',
    tag: null,
    summary: expect.stringContaining('running already'),
  })
  gate.resolve()
  expect(await refresh).toMatchObject({ status: 'FLIPPED' })
  expect(await scheduled(world, '2026-05-18T03:00:00Z')).toMatchObject({ status: 'NOTHING_NEW' })
})

it('a scheduled run whose refresh fails has failed', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes } })
  await world.worker()
  await world.pool.query('drop table items')
  const failure = await scheduled(world, '2026-05-18T02:00:00Z').catch((error: unknown) => error)
  expect(failureCode(failure)).toBe('DEFINITION_INVALID')
})
