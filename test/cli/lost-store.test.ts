import { afterAll, beforeAll, expect, test } from 'vitest'
import { type LocalRedis, startRedis } from '../../src/local/redis.ts'
import { type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

/** A Redis without persistence that came back empty, or a registry that was restored: what the two looks at everything make of it. */
let redis: LocalRedis
let project: Project
let worker: ReturnType<typeof startSnapflip>
let tag: string

beforeAll(async () => {
  redis = await startRedis()
  project = await testProject({ store: redis.url })
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  tag = json<{ tag: string }>(await project.run(['refresh', project.dataset, '--json'])).tag
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
  await redis?.stop()
})

test('doctor and status say that the store lost what the registry confirmed, and what to do; a refresh does it', async () => {
  const { port } = redis
  await redis.stop()
  redis = await startRedis({ port })
  const expected = new RegExp(
    `at ${tag} \\(epoch 1\\), as it was confirmed last, found no version.*snapflip refresh ${project.dataset}`,
  )
  const doctor = await project.run(['doctor'])
  expect(doctor).toMatchObject({ code: 5, stdout: expect.stringMatching(expected) })
  expect(doctor.stdout).toMatch(/NOT OK +pointer/)
  expect(doctor.stdout).not.toContain('All is well')
  const status = await project.run(['status'])
  expect(status).toMatchObject({ code: 5, stdout: expect.stringMatching(expected) })
  expect(status.stdout).toMatch(/none \(STORE_REBOUND\)/)
  expect(status.stdout).not.toContain('none yet')
  expect(json(await project.run(['status', project.dataset, '--json']))).toMatchObject({
    errors: [{ code: 'STORE_REBOUND', details: { confirmed: tag, active: null } }],
  })

  tag = json<{ tag: string }>(await project.run(['refresh', project.dataset, '--json'])).tag
  expect((await project.run(['status'])).code).toBe(0)
  expect((await project.run(['doctor'])).stdout).toContain('All is well')
})

test('they say that the registry does not know what readers are on', async () => {
  // As a backup from before the refresh gives it.
  await project.database.pool.query(`delete from snapflip.flip_intents where to_tag = '${tag}'`)
  const expected = new RegExp(`readers of ${project.dataset} are at ${tag} .*takes it over from the store`)
  expect(await project.run(['doctor'])).toMatchObject({ code: 7, stdout: expect.stringMatching(expected) })
  expect(await project.run(['status'])).toMatchObject({ code: 7, stdout: expect.stringMatching(expected) })
})
