import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../src/local/free-port.ts'
import { startPostgres } from '../../src/local/postgres.ts'
import { startRedis } from '../../src/local/redis.ts'
import { PRODUCTS, type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

/** What a person at the prompt sees while the store or the database does not answer. */

/** Well below what the other steps of a refresh wait for; a first step that waited as long as they do would outlive the test. */
const PATIENCE_MS = 150_000

let project: Project
let worker: ReturnType<typeof startSnapflip>

beforeAll(async () => {
  const redis = await startRedis()
  project = await testProject({ store: redis.url })
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  expect((await project.run(['refresh', project.dataset])).code).toBe(0)
  await project.database.pool.query('update products set price_cents = 1 where id = 1')
  expect((await project.run(['refresh', project.dataset])).code).toBe(0)
  await redis.stop()
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
})

test.concurrent('a refresh tells of each attempt at an unreachable store, and gives up with what it found', {
  timeout: PATIENCE_MS,
}, async ({ expect }) => {
  const ran = await project.run(['refresh', project.dataset])
  expect(ran.stderr).toMatch(/^attempt 2: redis:\/\/127\.0\.0\.1:\d+\/0 failed .*ECONNREFUSED.*; trying again$/m)
  expect(ran.stderr).toMatch(/^snapflip: STORE_UNREACHABLE: redis:\/\/127\.0\.0\.1:\d+\/0 failed .*ECONNREFUSED/m)
  expect(ran.code).toBe(5)
})

test.concurrent('so does a rollback, which nobody wants to wait for', { timeout: PATIENCE_MS }, async ({ expect }) => {
  const ran = await project.run(['rollback', project.dataset, '--reason', 'the prices'])
  expect(ran.stderr).toMatch(/^attempt 2: redis:\/\/.*ECONNREFUSED.*; trying again$/m)
  expect(ran.stderr).toMatch(/^snapflip: STORE_UNREACHABLE: redis:\/\/127\.0\.0\.1:\d+\/0 failed .*ECONNREFUSED/m)
  expect(ran.code).toBe(5)
})

test.concurrent('a database that went away is told as soon, though the registry cannot be told of the end', {
  timeout: PATIENCE_MS,
}, async ({ expect }) => {
  const own = await testProject({ migrated: false })
  const postgres = await startPostgres({ port: await freePort(), fsync: false })
  let stopped = false
  await own.define((definition) => ({ ...definition, database: postgres.url }))
  const pg = await import('pg')
  const client = new pg.default.Client({ connectionString: postgres.url })
  await client.connect()
  await client.query(PRODUCTS)
  await client.end()
  expect((await own.run(['apply', '--yes'])).code).toBe(0)
  const ownWorker = own.start(['worker', '--work-dir', `${own.folder}/work`])
  try {
    expect((await own.run(['refresh', own.dataset])).code).toBe(0)
    await postgres.stop()
    stopped = true
    const ran = await own.run(['refresh', own.dataset, '--json'])
    expect(json(ran)).toMatchObject({
      code: 'POSTGRES_UNREACHABLE',
      message: expect.stringContaining('Check `database`'),
    })
    expect(ran.code).toBe(5)
  } finally {
    ownWorker.kill('SIGTERM')
    await ownWorker.ended
    if (!stopped) await postgres.stop()
  }
})
