import { expect, it, onTestFinished } from 'vitest'
import { alertsSchema } from '../../schemas/alerts.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { makeWorld, type World, type WorldOptions } from '../support/world.ts'
import { type Received, startReceiver } from './receiver.ts'

const SECRET = 'geheim-signing-secret'
const ITEMS: WorldOptions = {
  schema: `
    create table items (id integer primary key, price integer not null);
    insert into items select i, i from generate_series(1, 200) i`,
  dataset: { indexes: { items: { from: 'public.items', key: 'id', value: ['price'] } } },
}
const soon = { timeout: 30_000 }
const bodyOf = ({ body }: Received) => JSON.parse(body) as Record<string, unknown>

/** With a sink at `url`, its secret in the environment of this process and of those it starts. */
async function worldWithSink(url: string): Promise<World> {
  process.env.TEST_REFRESH_SECRET = SECRET
  onTestFinished(() => void delete process.env.TEST_REFRESH_SECRET)
  const world = await makeWorld(ITEMS)
  const pager = { kind: 'webhook', url, secretEnv: 'TEST_REFRESH_SECRET', allowHosts: ['127.0.0.1'] }
  world.config = { ...world.config, alerts: alertsSchema.parse({ sinks: { pager } }) }
  return world
}

/** What the next refresh will find: a database that is not the one the active version was built from. */
async function breakLineage(world: World): Promise<void> {
  await world.pool.query('delete from snapflip.watermarks')
  await world.pool.query('update items set price = 0 where id = 7')
}

it('a receiver that hangs delays no refresh, and gets the alert from the worker that comes after a kill', async () => {
  const hanging = await startReceiver({ answer: () => undefined })
  const world = await worldWithSink(hanging.url)
  const killed = await world.workerProcess()
  const { tag } = await world.refresh()
  await breakLineage(world)
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED' })
  await expect.poll(() => hanging.received.length, soon).toBeGreaterThan(0)
  await killed.end()
  await hanging.stop()

  const receiver = await startReceiver({ port: hanging.port })
  // Its claim would end by itself, half a minute later.
  await world.pool.query('update snapflip.alert_deliveries set claimed_until = now()')
  await world.workerProcess()
  await expect.poll(() => receiver.received.length, soon).toBe(1)
  expect(bodyOf(receiver.received[0] as Received)).toMatchObject({
    id: hanging.received[0]?.headers['snapflip-delivery'],
    kind: 'LINEAGE_BROKEN',
    dataset: world.dataset,
    version: tag,
    runbook: 'runbooks/lineage-broken.md',
  })
})

it('the secret of a sink reaches neither logs nor history nor Temporal', async () => {
  const receiver = await startReceiver({ answer: (response) => response.writeHead(401).end() })
  const world = await worldWithSink(`${receiver.url}geheim-path`)
  await world.worker()
  await world.refresh()
  await breakLineage(world)
  await world.refresh()
  await expect.poll(() => receiver.received.length, soon).toBe(1)
  await expect.poll(() => world.logged.some((line) => line.msg === 'an alert was not delivered'), soon).toBe(true)

  const { events } = await world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset)).fetchHistory()
  const seen = [world.logged, await historyEntries(world.pool), events].map((part) => JSON.stringify(part))
  expect(seen[1]).toContain('alert.lineage_broken')
  for (const text of seen) {
    expect(text).toContain(world.dataset)
    expect(text).not.toContain('geheim')
  }
})
