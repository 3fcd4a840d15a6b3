import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Pointer } from '../../schemas/pointer.ts'
import { open } from '../../src/index.ts'
import { freePort } from '../../src/local/free-port.ts'
import { type LocalPostgres, startPostgres } from '../../src/local/postgres.ts'
import { type LocalRedis, startRedis } from '../../src/local/redis.ts'
import { testFolder } from '../support/services.ts'
import { PRODUCTS, type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

/** An incident in which one service after the other is gone; each test goes on where the one before ended. */
let project: Project
let worker: ReturnType<typeof startSnapflip>
let postgres: LocalPostgres
let redis: LocalRedis
let folders: { postgres: string; redis: string }
let noTemporal: number
const tags: string[] = []

const startDatabase = (port: number) => startPostgres({ port, dataDir: folders.postgres, fsync: false })
const startStore = (port?: number) =>
  startRedis({ dataDir: folders.redis, settings: { appendfsync: 'always' }, ...(port === undefined ? {} : { port }) })

async function sql(text: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  try {
    return await client.query(text)
  } finally {
    await client.end()
  }
}

async function refresh(price: number): Promise<string> {
  await sql(`update products set price_cents = ${price} where id = 1`)
  const ran = await project.run(['refresh', project.dataset, '--json'])
  const { tag } = json<{ tag: string }>(ran)
  expect(tag, ran.stdout).toMatch(/^v/)
  tags.push(tag)
  return tag
}

async function pointer(): Promise<Pointer> {
  const { datasets } = json<{ datasets: Array<{ pointer: Pointer }> }>(
    await project.run(['status', project.dataset, '--json']),
  )
  return (datasets[0] as { pointer: Pointer }).pointer
}

const direct = (...more: string[]) => project.run(['rollback', project.dataset, '--direct', '--json', ...more])

/** Where no Temporal answers. */
const temporal = (isUp: boolean) =>
  project.define((definition) => ({
    ...definition,
    database: postgres.url,
    ...(isUp ? {} : { temporal: { ...definition.temporal, address: `127.0.0.1:${noTemporal}` } }),
  }))

beforeAll(async () => {
  const folder = await testFolder()
  // As root, PostgreSQL runs under another account.
  await chmod(folder.path, 0o755)
  folders = { postgres: join(folder.path, 'postgres'), redis: folder.path }
  ;[postgres, redis] = [await startDatabase(await freePort()), await startStore()]
  noTemporal = await freePort()
  project = await testProject({ store: redis.url, migrated: false })
  await temporal(true)
  await sql(PRODUCTS)
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  for (const price of [1, 2, 3, 4]) await refresh(price)
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
  await redis?.stop()
  await postgres?.stop()
})

test('with Temporal down, --direct takes readers back by the registry, and looks at what they have', async () => {
  const reader = await open(redis.url, project.dataset, { followLagMs: 50 })
  const pin = await reader.pin()
  await temporal(false)
  expect(await project.run(['rollback', project.dataset, '--reason', 'prices'])).toMatchObject({
    code: 5,
    stderr: expect.stringMatching(/TEMPORAL_UNREACHABLE: .*`snapflip rollback \w+ --direct --reason …`/),
  })
  const ran = await direct('--reason', 'prices are off')
  expect(json(ran)).toMatchObject({
    status: 'ROLLED_BACK',
    by: 'registry',
    actor: 'postgres',
    from: tags[3],
    to: tags[2],
    rebound: false,
    integrity: { corrupt: 0, found: null },
    probes: { keys: expect.any(Number), found: null },
    readers: { pinned: { [tags[3] as string]: 1 } },
  })
  expect(ran.code).toBe(0)
  expect(json<{ summary: string }>(ran).summary).toMatch(/Pins still read what is quarantined \(1 on v/)
  expect(await pointer()).toMatchObject({
    active: { tag: tags[2] },
    quarantined: [tags[3]],
    hold: { by: 'postgres', reason: 'prices are off' },
    breakGlass: [],
  })
  await expect.poll(() => reader.get('products', 1)).toMatchObject({ price_cents: 3 })
  await pin.end()
  await reader.close()
  await temporal(true)
})

test('a PostgreSQL that answers with a refusal is not gone round', async () => {
  await project.define((definition) => ({ ...definition, database: postgres.urlOf('nowhere') }))
  const ran = await direct('--reason', 'no')
  expect(json(ran)).toMatchObject({ code: 'POSTGRES_UNREACHABLE', message: expect.stringContaining('nowhere') })
  await temporal(true)
  expect(await pointer()).toMatchObject({ active: { tag: tags[2] } })
})

test('with PostgreSQL down too, and Redis restarted, it is made in the store alone: hold, quarantine and entry beside the pointer', async () => {
  const before = await pointer()
  await postgres.crash()
  await redis.crash()
  redis = await startStore(redis.port)
  const reader = await open(redis.url, project.dataset, { followLagMs: 50 })
  // Asked for twice, they mean the same step back: the second hears who has made it, and when.
  const twice = json<{ code: string; message: string }>(await direct('--reason', 'prices are off'))
  expect(twice.code).toBe('CONFLICT')
  expect(twice.message).toMatch(
    new RegExp(
      `on ${tags[3]}, .*found them on ${tags[2]}: postgres took them there from ${tags[3]} at 20.*\\(prices are off\\).*--to ${tags[1]}`,
    ),
  )
  const further = ['--to', tags[1] as string, '--reason', 'still off']
  const ran = await project.run(['rollback', project.dataset, '--direct', ...further])
  expect(ran.stderr).toMatch(/PostgreSQL does not answer: .* in the store alone \(break-glass\)/)
  expect(ran.stdout).toMatch(/bound to the server that answers now/)
  expect(ran.stdout).toMatch(/by .*@.*: unverified/)
  expect(ran.stdout).toMatch(/is whole: \d+ blocks read again, \d+ keys read back/)
  expect(ran.code).toBe(0)
  await expect.poll(() => reader.get('products', 1)).toMatchObject({ price_cents: 2 })
  const now = await pointer()
  expect(now).toMatchObject({
    active: { tag: tags[1] },
    epoch: { registry: before.epoch.registry },
    quarantined: [tags[3], tags[2]],
    hold: { by: expect.stringMatching(/^break-glass:.+@/), reason: 'still off' },
    breakGlass: [{ from: tags[2], to: tags[1], reason: 'still off', rebound: true }],
  })
  expect(now.epoch.breakGlass).toBeGreaterThan(before.epoch.breakGlass)

  expect(json(await direct('--reason', 'still off'))).toMatchObject({
    code: 'CONFLICT',
    message: expect.stringMatching(new RegExp(`break-glass:.*@.* took them there from ${tags[2]} .*--to ${tags[0]}`)),
  })
  // Again, by name; and not to what readers never were on, or were taken from.
  const never = await direct('--to', 'v20200101-01', '--reason', 'no')
  expect(json(never)).toMatchObject({ code: 'UNKNOWN_VERSION' })
  expect(json(await direct('--to', tags[2] as string, '--reason', 'no'))).toMatchObject({ code: 'VERSION_QUARANTINED' })
  const again = json(await direct('--to', tags[0] as string, '--reason', 'older still'))
  expect(again).toMatchObject({ by: 'breakGlass', from: tags[1], to: tags[0], rebound: false })
  expect((await pointer()).breakGlass).toHaveLength(2)
  await expect.poll(() => reader.get('products', 1)).toMatchObject({ price_cents: 1 })
  await reader.close()
})

test('when PostgreSQL is back, the registry takes it over before its next flip', async () => {
  postgres = await startDatabase(postgres.port)
  await temporal(true)
  const held = await project.run(['refresh', project.dataset, '--json'])
  expect(json(held)).toMatchObject({ code: 'ON_HOLD' })
  expect(await pointer()).toMatchObject({ active: { tag: tags[0] }, breakGlass: [] })
  const { entries } = json<{ entries: Array<{ kind: string; actor: string; detail: { from: string; to: string } }> }>(
    await project.run(['history', project.dataset, '--kind', 'rollback.absorbed', '--json']),
  )
  expect(entries.map(({ actor, detail: { from, to } }) => ({ actor, from, to }))).toEqual([
    { actor: expect.stringMatching(/^break-glass:.+@/), from: tags[1], to: tags[0] },
    { actor: expect.stringMatching(/^break-glass:.+@/), from: tags[2], to: tags[1] },
  ])
  // Forward again to what was good after all, with Temporal and a worker; then a refresh.
  const resume = ['resume', project.dataset, '--reason', 'it was the reader', '--json']
  // Of every rollback since the last resume, whichever hold took the place of its own.
  const quarantined = [tags[3], tags[2], tags[1]]
  expect(json(await project.run(resume))).toMatchObject({ code: 'USAGE', details: { quarantined } })
  expect(json(await project.run([...resume, '--release', tags[1] as string, '--keep-quarantine']))).toMatchObject({
    kept: [tags[3], tags[2]],
    released: [tags[1]],
  })
  const forward = await project.run(['flip', project.dataset, tags[1] as string, '--reason', 'it was the reader'])
  expect(forward).toMatchObject({ code: 0, stdout: expect.stringContaining(`forward to ${tags[1]}`) })
  const drill = await project.run(['drill', project.dataset])
  expect(drill).toMatchObject({ code: 0, stdout: expect.stringMatching(/^DONE: .* and back; readers are on v/) })
  await refresh(5)
  expect((await project.run(['history', 'verify', project.dataset])).code).toBe(0)
})

test('a PostgreSQL that takes connections and whose commits never return is gone round within a bound', async () => {
  const now = (await pointer()).active?.tag
  await sql(`alter system set synchronous_standby_names = 'nobody'`)
  await sql('select pg_reload_conf()')
  const made = json(await direct('--reason', 'commits hang'))
  expect(made).toMatchObject({ by: 'breakGlass', from: now, to: tags[1], isHealthy: true })
  await sql('alter system reset synchronous_standby_names')
  await sql('select pg_reload_conf()')
  await temporal(true)
  // What hung is committed by now, as the intent of a flip that was never made: it is ruled out, and the entry is taken over.
  expect(json(await project.run(['refresh', project.dataset, '--json']))).toMatchObject({ code: 'ON_HOLD' })
  expect(await pointer()).toMatchObject({ active: { tag: tags[1] }, breakGlass: [] })
  expect((await project.run(['history', 'verify', project.dataset])).code).toBe(0)
})
