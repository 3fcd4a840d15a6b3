import { randomUUID } from 'node:crypto'
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client'
import { expect, it } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import { versions } from '../../src/registry/versions.ts'
import { around, makeWorld, type World } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

/** Starts a workflow as a person does who types its id and input into the Temporal UI. */
async function typed(world: World, workflowType: string, workflowId: string, ...args: unknown[]) {
  const { taskQueue } = world.config.temporal
  return world.client.workflow.start(workflowType, { workflowId, taskQueue, args })
}

async function statuses(world: World): Promise<(string | null)[]> {
  const { rows } = await world.pool.query<{ status: string | null }>(
    'select status from snapflip.refresh_runs order by opened_at',
  )
  return rows.map((row) => row.status)
}

it('a second refresh under the same id is refused by Temporal, and the first goes on', async () => {
  const world = await makeWorld(SHOP)
  const id = WORKFLOW_ID.refresh(world.dataset)
  const first = await typed(world, 'refresh', id, { dataset: world.dataset })
  await expect(typed(world, 'refresh', id, { dataset: world.dataset })).rejects.toBeInstanceOf(
    WorkflowExecutionAlreadyStartedError,
  )
  await world.worker()
  expect(await first.result()).toMatchObject({ status: 'FLIPPED' })
})

it('a refresh under another id fails at once and names the right one', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const failure = await (await typed(world, 'refresh', `mine-${world.dataset}`, { dataset: world.dataset }))
    .result()
    .catch((error: unknown) => error)
  expect(failureCode(failure)).toBe('USAGE')
  expect(failureMessage(failure)).toContain(`has the workflow id ${WORKFLOW_ID.refresh(world.dataset)}`)
  expect(await statuses(world)).toEqual([])
})

it('the registry holds the lock where the workflow id does not', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  await openRefresh(world.pool, {
    refreshId: randomUUID(),
    dataset: world.dataset,
    workflowId: 'of-another-namespace',
    runId: randomUUID(),
    reason: null,
    requestedBy: 'test',
    requestedVia: 'temporal',
    full: false,
    policy: { number: 1, digest: '' },
    snapflip: '',
  })
  const failure = await world.refreshFailure()
  expect(failureCode(failure)).toBe('REFRESH_RUNNING')
  expect(failureMessage(failure)).toContain('workflow of-another-namespace at work')
  expect(await statuses(world)).toEqual([null])
})

it('a run that was terminated is taken over by the next, and what is left of it can change nothing', async () => {
  const world = await makeWorld(SHOP)
  const building = Promise.withResolvers<void>()
  const letGo = Promise.withResolvers<void>()
  let isFirst = true
  await world.worker(
    around({
      run: async (operation, call) => {
        if (operation !== 'writer.finish' || !isFirst) return call()
        isFirst = false
        building.resolve()
        await letGo.promise
        return call()
      },
    }),
  )
  const terminated = await typed(world, 'refresh', WORKFLOW_ID.refresh(world.dataset), { dataset: world.dataset })
  await building.promise
  await terminated.terminate('a test')

  const outcome = await world.refresh()
  expect(outcome).toMatchObject({ status: 'FLIPPED', active: outcome.tag })
  const { rows } = await world.pool.query('select status, summary from snapflip.refresh_runs order by opened_at')
  expect(rows).toMatchObject([
    { status: 'FAILED', summary: expect.stringContaining('ended without closing its refresh') },
    { status: 'FLIPPED' },
  ])

  // The terminated run's build goes on: it finds its generation swept and its refresh closed.
  const before = await world.pointer()
  letGo.resolve()
  await world.pool.query('update products set price = 1 where id = 7')
  const next = await world.refresh()
  expect(next).toMatchObject({ status: 'FLIPPED' })
  expect((await world.pointer()).previous).toEqual(before.active)
  expect((await versions(world.pool, world.dataset)).map((row) => row.tag)).toEqual([next.tag, outcome.tag])
  expect(await (await world.store()).data.generations()).toHaveLength(2)
})

it.each([
  ['no input at all', [], 'USAGE'],
  ['null', [null], 'USAGE'],
  ['no dataset', [{}], 'USAGE'],
  ['an extra field', [{ dataset: 'shop', fulll: true }], 'USAGE'],
  ['an unknown dataset', [{ dataset: 'shop', reason: 'a test' }], 'UNKNOWN_DATASET'],
] as const)('typed by hand with %s, refresh and rollback fail at once and open nothing', async (_title, args, code) => {
  const world = await makeWorld(SHOP)
  await world.worker()
  for (const type of ['refresh', 'rollback']) {
    const handle = await typed(world, type, `${type}-${world.dataset}`, ...args)
    const failure = await handle.result().catch((error: unknown) => error)
    expect(failureCode(failure), type).toBe(code)
    expect(failureMessage(failure), type).toMatch(code === 'USAGE' ? /^Expected \{"dataset"/ : /There is no dataset/)
  }
  expect(await statuses(world)).toEqual([])
  expect(world.logged.filter((line) => line.alert !== undefined)).toEqual([])
})
