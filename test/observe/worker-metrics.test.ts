import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { ttlSchema } from '../../schemas/pointer.ts'
import { METRICS, type MetricDeclaration } from '../../src/core/metrics.ts'
import { createLog } from '../../src/observe/log.ts'
import { Measurements, type MeasurementsOptions } from '../../src/observe/measurements.ts'
import { WorkerMetrics } from '../../src/observe/worker-metrics.ts'
import { testFolder } from '../support/services.ts'
import { makeWorld, type World, type WorldOptions } from '../support/world.ts'
import { sampleOf, samplesOf } from './scrape.ts'

const ITEMS: WorldOptions = {
  schema: `
    create table items (id integer primary key, price integer not null);
    create table other (id integer primary key);
    insert into items select i, i from generate_series(1, 200) i`,
  dataset: { indexes: { items: { from: 'public.items', key: 'id', value: ['price'] } } },
}
const PORT = { metrics: { host: '127.0.0.1', port: 0 } }
const silent = createLog({ level: 'silent' })

/** A worker's measurements, each taken when asked for. */
function measurementsOf(world: World, more: Partial<MeasurementsOptions> = {}) {
  const metrics = new WorkerMetrics()
  const { config, pool } = world
  const store = (_dataset: string, name?: string) => world.store(name)
  const plain = { config, pool, store, backlog: async () => ({}), metrics, log: silent }
  const measurements = new Measurements({ ...plain, ...more, times: { everyMs: 0, ...more.times } })
  const scrape = async () => {
    await measurements.measure()
    return metrics.registry.metrics()
  }
  return { metrics, scrape }
}

it('a worker tells Prometheus what became of refreshes and how each dataset stands', async () => {
  const world = await makeWorld(ITEMS)
  const { metricsUrl } = await world.worker(undefined, PORT)
  await world.refresh()
  await world.refresh()
  const answer = await fetch(metricsUrl as string)
  expect(answer.headers.get('content-type')).toContain('text/plain; version=0.0.4')
  const text = await answer.text()

  const { dataset } = world
  const refreshes = 'snapflip_refresh_duration_seconds'
  expect(sampleOf(text, `${refreshes}_count`, { dataset, status: 'FLIPPED' })).toBe(1)
  expect(sampleOf(text, `${refreshes}_count`, { dataset, status: 'NOTHING_NEW' })).toBe(1)
  // Before the first of them, so that a rule sees it rise.
  expect(sampleOf(text, `${refreshes}_count`, { dataset, status: 'ROLLED_BACK' })).toBe(0)
  expect(sampleOf(text, 'snapflip_alerts_total', { dataset, kind: 'VERIFY_FAILED' })).toBe(0)
  expect(sampleOf(text, 'snapflip_step_duration_seconds_count', { dataset, step: 'build' })).toBe(2)
  expect(sampleOf(text, 'snapflip_step_duration_seconds_sum', { dataset, step: 'build' })).toBeGreaterThan(0)
  for (const tasks of ['workflows', 'activities', 'builds'])
    expect(sampleOf(text, 'snapflip_task_queue_backlog', { tasks })).toBe(0)
  expect(sampleOf(text, 'snapflip_scrape_errors_total', { part: 'temporal' })).toBeUndefined()

  const exported = new Set(samplesOf(text).map(({ name }) => name.replace(/_(bucket|sum|count)$/, '')))
  const declared = Object.entries<MetricDeclaration>(METRICS).filter(([, { from }]) => from === 'worker')
  // These two are there once something happened.
  const quiet = ['snapflip_scrape_errors_total', 'snapflip_staleness_budget_seconds']
  expect([...exported].sort()).toEqual(
    declared
      .map(([name]) => name)
      .filter((name) => !quiet.includes(name))
      .sort(),
  )
  for (const { name, labels } of samplesOf(text)) {
    const { labels: known } = METRICS[name.replace(/_(bucket|sum|count)$/, '') as keyof typeof METRICS]
    expect([...known, 'le']).toEqual(expect.arrayContaining(Object.keys(labels)))
  }

  const origin = new URL(metricsUrl as string).origin
  expect((await fetch(`${origin}/healthz`)).status).toBe(200)
  expect((await fetch(`${origin}/elsewhere`)).status).toBe(404)
  expect((await fetch(`${origin}/metrics`, { method: 'POST' })).status).toBe(405)
})

it('the gauges say how far the source is ahead, what delays it, what is on hold and what each store holds', async () => {
  const { path } = await testFolder()
  const world = await makeWorld({ ...ITEMS, furtherStores: { archive: `file:${path}` } })
  const { scrape } = measurementsOf(world)
  await world.worker()
  const { dataset } = world
  expect(sampleOf(await scrape(), 'snapflip_active_version_age_seconds', { dataset })).toBeUndefined()

  const [late, elsewhere] = [await world.pool.connect(), await world.pool.connect()]
  onTestFinished(() => {
    for (const client of [late, elsewhere]) client.release(true)
  })
  await late.query('begin; update items set price = 0 where id = 1')
  await elsewhere.query('begin; insert into other values (1)')
  await world.refresh()
  const store = await world.store()
  const at = async (text: string) => ({
    changes: sampleOf(text, 'snapflip_source_lag_changes', { dataset }),
    seconds: sampleOf(text, 'snapflip_source_lag_seconds', { dataset }),
    delaying: sampleOf(text, 'snapflip_delaying_transactions', { dataset }),
    onHold: sampleOf(text, 'snapflip_on_hold', { dataset }),
    running: sampleOf(text, 'snapflip_refresh_running_seconds', { dataset }),
    drift: sampleOf(text, 'snapflip_drift_keys', { dataset, index: 'items' }),
  })
  const first = await scrape()
  expect(await at(first)).toEqual({ changes: 0, seconds: 0, delaying: 1, onHold: 0, running: 0, drift: 0 })
  const bytes = sampleOf(first, 'snapflip_store_bytes', { dataset, store: 'main' }) as number
  expect(bytes).toBeGreaterThan(1000)
  expect(sampleOf(first, 'snapflip_store_bytes', { dataset, store: 'archive' })).toBeGreaterThan(1000)
  expect(sampleOf(first, 'snapflip_changelog_bytes')).toBeGreaterThan(1000)
  expect(sampleOf(first, 'snapflip_undelivered_alerts')).toBe(0)
  await world.pool.query(
    "update snapflip.index_versions set sealed_at = sealed_at - interval '1 hour' where dataset = $1 and state = 'active'",
    [dataset],
  )
  await world.pool.query(
    `insert into snapflip.gate_verdicts (refresh_id, dataset, tag, position, gate, index, verdict, summary, actual, limit_, sample_keys)
     select refresh_id, dataset, tag, 99, 'drift', 'other', 'warn', '', '{"compared": 10, "different": 3}', '{}', '{}'
       from snapflip.gate_verdicts where dataset = $1 limit 1`,
    [dataset],
  )
  const drifted = await scrape()
  expect(sampleOf(drifted, 'snapflip_active_version_age_seconds', { dataset })).toBeCloseTo(3600, -2)
  expect(sampleOf(drifted, 'snapflip_drift_keys', { dataset, index: 'other' })).toBe(3)
  expect(sampleOf(drifted, 'snapflip_drift_share', { dataset, index: 'other' })).toBe(0.3)
  expect(sampleOf(drifted, 'snapflip_drift_share', { dataset, index: 'items' })).toBe(0)

  await world.pool.query('update items set price = price + 1 where id between 10 and 14')
  await world.hold()
  await world.pool.query(
    `insert into snapflip.refresh_runs (id, dataset, workflow_id, run_id, requested_by, "full", opened_at)
     values (gen_random_uuid(), $1, 'w', 'r', 'test', false, now() - interval '1 hour')`,
    [dataset],
  )
  const behind = await scrape()
  expect(await at(behind)).toEqual({
    changes: 5,
    seconds: expect.closeTo(sampleOf(behind, 'snapflip_staleness_seconds', { dataset }) as number, 0),
    delaying: 1,
    onHold: 1,
    running: expect.closeTo(3600, -2),
    drift: 0,
  })
  expect(sampleOf(behind, 'snapflip_staleness_budget_seconds', { dataset })).toBeUndefined()
  await late.query('commit')
  expect(await at(await scrape())).toMatchObject({ changes: 6, delaying: 0 })

  // What two versions share is counted once.
  const former = await world.pointer()
  await world.pool.query('delete from snapflip.refresh_runs where closed_at is null')
  await world.resume()
  await world.refresh()
  const read = await store.pointer.read()
  if (read === null) throw new Error('there is no pointer')
  await store.pointer.swap(read.token, { ...read.pointer, ttl: ttlSchema.parse({ budgetMs: 90_000, beyond: 'mark' }) })
  const after = await scrape()
  for (const store of ['main', 'archive']) {
    expect(sampleOf(after, 'snapflip_store_bytes', { dataset, store })).toBeGreaterThan(bytes)
    expect(sampleOf(after, 'snapflip_store_bytes', { dataset, store })).toBeLessThan(2 * bytes)
  }
  expect(sampleOf(after, 'snapflip_staleness_budget_seconds', { dataset })).toBe(90)

  // A store that came back older says nothing of the version that the registry knows; nor does a snapshot of another cluster.
  await store.pointer.swap((await store.pointer.read())?.token ?? null, former)
  expect(await at(await scrape())).toMatchObject({ changes: 0, seconds: 0 })
  await world.pool.query(
    `update snapflip.index_versions set watermark = jsonb_set(watermark, '{system}', '"elsewhere"') where state = 'active'`,
  )
  expect(await at(await scrape())).toMatchObject({ changes: undefined, seconds: undefined, delaying: undefined })
})

it('what does not answer delays no scrape and leaves out its own gauges alone', async () => {
  const world = await makeWorld(ITEMS)
  await world.worker()
  await world.refresh()
  const { dataset } = world
  const blocking = await world.pool.connect()
  onTestFinished(() => blocking.release(true))
  await blocking.query('begin; lock table snapflip.dataset_holds in access exclusive mode')
  const { scrape } = measurementsOf(world, { times: { partMs: 200 } })
  const text = await scrape()
  expect(sampleOf(text, 'snapflip_scrape_errors_total', { part: 'registry' })).toBe(1)
  expect(sampleOf(text, 'snapflip_on_hold', { dataset })).toBeUndefined()
  expect(sampleOf(text, 'snapflip_staleness_seconds', { dataset })).toBeGreaterThanOrEqual(0)
  await blocking.query('rollback')
  await expect.poll(async () => sampleOf(await scrape(), 'snapflip_on_hold', { dataset })).toBe(0)

  let asked = 0
  const store = () => {
    asked++
    return new Promise<never>(() => undefined)
  }
  const hanging = measurementsOf(world, { store, times: { partMs: 200 } })
  for (let n = 0; n < 3; n++) await hanging.scrape()
  const last = await hanging.scrape()
  expect(sampleOf(last, 'snapflip_scrape_errors_total', { part: 'store' })).toBe(8)
  expect(sampleOf(last, 'snapflip_on_hold', { dataset })).toBe(0)
  // For its pointer and for its manifests; not again while neither has answered.
  expect(asked).toBe(2)
})

it('a port that is taken is told, and the worker does not start', async () => {
  const world = await makeWorld(ITEMS)
  const server = createServer()
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  await expect(world.worker(undefined, { metrics: { host: '127.0.0.1', port } })).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringMatching(/^Expected to serve metrics at 127\.0\.0\.1:\d+, found EADDRINUSE: .* Name another/),
  })
})
