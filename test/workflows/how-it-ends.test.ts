import { Context } from '@temporalio/activity'
import { expect, it } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { refreshes } from '../../src/registry/refreshes.ts'
import { around, makeWorld } from '../support/world.ts'

/** What Temporal's UI and the registry say of a workflow that is over. */

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n * 10 from generate_series(1, 300) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

it('a rollback that is refused says why where it was started, not that an activity failed', {
  timeout: 120_000,
}, async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  await expect(world.rollback()).rejects.toMatchObject({
    cause: {
      name: 'ApplicationFailure',
      type: 'NO_ACTIVE_VERSION',
      message: expect.stringContaining(`Expected an active version of ${world.dataset} to go back from`),
    },
  })
})

it('a rollback can be searched for by dataset, version and outcome', async () => {
  const world = await makeWorld(SHOP)
  await world.worker()
  const { tag } = await world.refresh()
  await world.pool.query('update products set price = 1 where id <= 20')
  await world.refresh()
  await world.rollback()
  const { searchAttributes } = await world.client.workflow.getHandle(WORKFLOW_ID.rollback(world.dataset)).describe()
  expect(searchAttributes).toMatchObject({
    snapflipDataset: [world.dataset],
    snapflipVersion: [tag],
    snapflipOutcome: ['ROLLED_BACK'],
  })
})

it('a refresh that was cancelled says in which step', async () => {
  const world = await makeWorld(SHOP)
  await world.worker(
    around({
      run: async (operation, call) => {
        if (operation === 'writer.finish') {
          await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).cancel()
          await Context.current().cancelled.catch(() => undefined)
        }
        return call()
      },
    }),
  )
  await world.refreshFailure()
  const [last] = await refreshes(world.pool, world.dataset, 1)
  expect(last).toMatchObject({
    status: 'CANCELLED',
    summary: expect.stringMatching(/^cancelled in step (build|gates)$/),
  })
})
