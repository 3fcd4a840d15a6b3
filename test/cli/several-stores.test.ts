import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ConfigInput } from '../../schemas/config.ts'
import { type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

/** A dataset in one store that gets a second one, as a person at the command line sees it. */
let project: Project
let worker: ReturnType<typeof startSnapflip>
let tag: string

const publishedTo =
  (...stores: string[]) =>
  (definition: ConfigInput): ConfigInput => ({
    ...definition,
    stores: { ...definition.stores, archive: 'file:./archive' },
    datasets: { [project.dataset]: { ...definition.datasets[project.dataset], stores } as never },
  })

beforeAll(async () => {
  project = await testProject()
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  tag = json<{ tag: string }>(await project.run(['refresh', project.dataset, '--json'])).tag
  await project.define(publishedTo('main', 'archive'))
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
})

test('a second store is added by apply, filled by the next refresh, shown, read and verified', async () => {
  const { dataset } = project
  expect((await project.run(['plan'])).stdout).toMatch(/\+ store archive: the next refresh copies the version there/)
  expect((await project.run(['apply', '--yes'])).stdout).toMatch(/published to archive from the next refresh on/)
  expect(json(await project.run(['status', dataset, '--json']))).toMatchObject({
    datasets: [{ stores: [{ name: 'archive', state: 'new', active: null }] }],
  })
  worker.kill('SIGTERM')
  await worker.ended
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  expect(json(await project.run(['refresh', dataset, '--json']))).toMatchObject({ status: 'NOTHING_NEW' })

  expect((await project.run(['status', dataset])).stdout).toMatch(new RegExp(`store archive +${tag} \\(epoch 1\\)`))
  expect((await project.run(['served-at', dataset, new Date().toISOString()])).stdout).toMatch(
    new RegExp(`store +archive: on ${tag} since 2`),
  )
  expect((await project.run(['doctor'])).stdout).toMatch(new RegExp(`pointer ${dataset} in archive +at ${tag}`))
  expect((await project.run(['show', dataset, tag])).stdout).toMatch(/also in +archive/)
  expect(await project.run(['verify', dataset, '--store', 'archive'])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(new RegExp(`${tag} of ${dataset} is sound`)),
  })
  expect(json(await project.run(['get', dataset, 'products', '42', '--store', 'archive', '--json']))).toMatchObject({
    value: { sku: 'sku42' },
  })
  expect(await project.run(['verify', dataset, '--store', 'cellar'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/Expected a store of .* \(main, archive\), found "cellar"/),
  })
})

test('a store that is not named any more is followed no more, and keeps what it has', async () => {
  await project.define(publishedTo('main'))
  expect((await project.run(['plan'])).stdout).toMatch(/- store archive .*: followed no more; what lies there stays/)
  expect((await project.run(['apply', '--yes'])).stdout).toMatch(/archive followed no more/)
  expect(json(await project.run(['status', project.dataset, '--json']))).toMatchObject({ datasets: [{ stores: [] }] })
})
