import { Redis } from 'ioredis'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { emptyPointer } from '../../src/core/pointer.ts'
import { open } from '../../src/reader/open.ts'
import { openStore } from '../../src/stores/open.ts'
import { report } from '../stores/reports.ts'
import { testRedis } from '../support/services.ts'
import { type Project, testProject, withIndexes } from './project.ts'
import { json } from './run.ts'

test('under the printed ACL readers read, take leases and leave counters, and cannot write pointer, manifest or block', async () => {
  const { url, prefix } = await testRedis()
  const store = `${url}?prefix=${prefix}`
  const project = await testProject({ store })
  await project.run(['apply', '--yes'])
  const { redis } = json<{ redis: string }>(await project.run(['doctor', '--grants', '--json']))
  const line = redis.split('\n').find((text) => text.startsWith('acl setuser')) ?? ''
  const admin = new Redis(url)
  const [, , user = '', ...rules] = line.split(' ')
  await admin.acl('SETUSER', user, ...rules)
  const asReader = new URL(store)
  asReader.username = user
  asReader.password = 'PASSWORD'
  const worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  try {
    expect((await project.run(['refresh', project.dataset])).code).toBe(0)
    const reader = await open(asReader.href, project.dataset)
    expect(await reader.get('products', 1)).toMatchObject({ sku: 'sku1' })
    const pin = await reader.pin()
    expect(pin.protected).toBe(true)
    expect(await pin.list('byCategory', 'cat1')).toContain(1)
    await pin.end()
    await reader.close()

    const handle = await openStore(asReader.href, { dataset: project.dataset })
    const found = await handle.pointer.read()
    const refused = { code: 'STORE_UNSUITABLE', message: expect.stringMatching(/snapflip doctor --grants/) }
    await expect(handle.pointer.swap(found?.token ?? null, emptyPointer(project.dataset))).rejects.toMatchObject(
      refused,
    )
    await expect(handle.data.putManifest('v20260101-01', Buffer.from('{}'))).rejects.toMatchObject(refused)
    await expect(handle.data.begin('0'.repeat(32))).rejects.toMatchObject(refused)
    expect((await handle.pointer.read())?.pointer).toEqual(found?.pointer)
    await handle.counters.put(report({}))
    await expect(handle.counters.list('flip-1')).rejects.toMatchObject(refused)
    await handle.close()
  } finally {
    worker.kill('SIGTERM')
    await worker.ended
    await admin.acl('DELUSER', user)
    admin.disconnect()
  }
})

test('the printed policy of S3 lets a reader see that an object is not there', async () => {
  const project = await testProject({ store: 's3://bucket/versions?region=eu-central-1' })
  const { s3 } = json<{ s3: string }>(await project.run(['doctor', '--grants', '--json']))
  const { Statement } = JSON.parse(s3.slice(s3.indexOf('{')))
  // A GetObject names no prefix, and is answered 403 for a missing object where ListBucket is bound to one.
  expect(Statement).toContainEqual({
    Effect: 'Allow',
    Action: ['s3:ListBucket'],
    Resource: ['arn:aws:s3:::bucket'],
    Condition: { StringLikeIfExists: { 's3:prefix': [`versions/${project.dataset}/*`] } },
  })
})

describe('the printed roles of PostgreSQL', () => {
  let project: Project
  let roles: { worker: string; owner: string }
  const as = (role: string) => {
    const url = new URL(project.database.url)
    url.username = role
    url.password = 'pw'
    return project.define((definition) => ({ ...definition, database: url.href }))
  }

  beforeAll(async () => {
    project = await testProject()
    const { postgres } = json<{ postgres: string }>(await project.run(['doctor', '--grants', '--json']))
    const { pool, name } = project.database
    roles = { worker: `worker_${name}`, owner: `owner_${name}` }
    // A careful owner's database; the printed grants must suffice there.
    await pool.query(`revoke temporary on database ${name} from public`)
    // As printed, then once more: it changes nothing.
    await pool.query(postgres)
    await pool.query(postgres)
    await pool.query(
      `create role ${roles.worker} login password 'pw' in role snapflip_worker;
       create role ${roles.owner} login password 'pw' in role snapflip_capture;
       grant create on schema public to ${roles.owner}; alter table products owner to ${roles.owner}`,
    )
  })
  afterAll(async () => {
    await project.database.pool.query(
      `alter table products owner to current_user; revoke create on schema public from ${roles.owner};
       drop role ${roles.worker}; drop role ${roles.owner}`,
    )
  })

  test('let the owner of the tables apply', async () => {
    await as(roles.owner)
    expect(await project.run(['apply', '--yes'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('capture attached to public.products'),
    })
  })

  test('let a worker and its people look, hold and resume, and write to no source', async () => {
    await as(roles.worker)
    expect((await project.run(['doctor'])).stdout).toMatch(/ok +grants +worker_\w+ may do what a worker does/)
    const { pool: owner, name } = project.database
    await owner.query(
      `revoke temporary on database ${name} from snapflip_worker; revoke execute on function snapflip.begin_lineage() from snapflip_worker`,
    )
    const { stdout } = await project.run(['doctor'])
    expect(stdout).toMatch(/execute on snapflip\.begin_lineage/)
    expect(stdout).toMatch(/temporary on the database/)
    await owner.query(
      `grant temporary on database ${name} to snapflip_worker; grant execute on function snapflip.begin_lineage() to snapflip_worker`,
    )
    for (const verb of ['hold', 'resume'])
      expect(await project.run([verb, project.dataset, '--reason', 'x'])).toMatchObject({ code: 0 })
    const pool = new pg.Pool({ connectionString: project.database.url })
    await expect(pool.query(`set role ${roles.worker}; delete from products`)).rejects.toThrow(/permission denied/)
    await pool.end()
  })

  // A build writes to snapflip.captures even where capture is as it must be, which no worker may.
  test('let a worker refresh', async () => {
    await as(roles.worker)
    const worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
    try {
      expect(await project.run(['refresh', project.dataset])).toMatchObject({ code: 0 })
    } finally {
      worker.kill('SIGTERM')
      await worker.ended
    }
  })
})

test('roles for a table that is not there are refused', async () => {
  const project = await testProject()
  await project.define(withIndexes({ none: { from: 'public.nope', key: 'a', value: 'b' } }))
  expect(await project.run(['doctor', '--grants'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/table or view public\.nope, found none/),
  })
})
