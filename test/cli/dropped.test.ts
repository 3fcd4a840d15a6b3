import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { beforeAll, expect, test, vi } from 'vitest'
import { open } from '../../src/index.ts'
import { openStore } from '../../src/stores/open.ts'
import { TestDataset } from '../reader/dataset.ts'
import { leaveViewsOut, type Project, testProject } from './project.ts'
import { expectRefused } from './refused.ts'
import { json } from './run.ts'

let project: Project
beforeAll(async () => {
  project = await testProject()
})

test('a dataset that the file has no longer is shown by plan and apply, until it is detached', async () => {
  const { dataset } = project
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  await project.define((definition) => ({ ...definition, datasets: {} }))
  const told = expect.stringMatching(
    new RegExp(`${dataset}: applied, and not in this file.*snapflip detach ${dataset}`),
  )
  expect(await project.run(['plan'])).toMatchObject({ code: 0, stdout: told })
  expect(json(await project.run(['plan', '--json']))).toMatchObject({ notInFile: [dataset] })
  expect(await project.run(['apply', '--yes'])).toMatchObject({ code: 0, stderr: told })

  // Whoever reads it still is named, and nothing is changed.
  const store = await openStore(pathToFileURL(join(project.folder, 'versions')).href, { dataset })
  await store.leases.put({ id: 'a-reader', tag: 'v20260518-01', kind: 'reader', ttlMs: 600_000 })
  const refusal = { code: 'USAGE', exit: 2, expected: /lease a-reader on v20260518-01/ }
  await expectRefused(project, ['apply', '--yes'], refusal)
  // Nor are snapflip's own tables, where they are those of an older one.
  await leaveViewsOut(project)
  expect(await project.run(['apply', '--yes'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(refusal.expected),
  })
  expect((await project.run(['migrate', '--dry-run'])).stdout).toContain('To run: 0013_views.')
  expect(await project.run(['apply', '--yes', '--force'])).toMatchObject({ code: 0, stderr: told })
  await expectRefused(project, ['detach', dataset], refusal)
  expect(json(await project.run(['plan', '--json']))).toMatchObject({ notInFile: [dataset] })
  await store.leases.drop('a-reader')
  const { url } = store

  // A reader that pins nothing holds no lease, and is known from what it reports.
  await new TestDataset(dataset, store).publish({ products: { kind: 'unique', entries: [['1', 'one']] } })
  const reader = await open(url, dataset, { reportMs: 100 })
  await reader.get('products', 1)
  await vi.waitFor(async () => expect((await project.run(['apply', '--yes'])).code).toBe(2), { timeout: 20_000 })
  await reader.close()
  const reported = { code: 2, stderr: expect.stringContaining('which reports from v20260518-01') }
  expect(await project.run(['detach', dataset])).toMatchObject(reported)
  await store.counters.drop((await store.pointer.read())?.pointer.flipId ?? '')
  expect(await project.run(['apply', '--yes'])).toMatchObject({ code: 0 })

  // What cannot be asked is no nobody.
  await project.define(({ stores: _, ...rest }) => ({ ...rest, stores: { other: 'file:./others' }, datasets: {} }))
  const unasked = { code: 2, stderr: expect.stringContaining(`in ${url}: this file has no such store`) }
  expect(await project.run(['apply', '--yes'])).toMatchObject(unasked)
  expect(await project.run(['detach', dataset])).toMatchObject(unasked)
  await project.define((definition) => ({ ...definition, datasets: {} }))
  await store.close()

  expect(await project.run(['detach', dataset])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('capture taken off public.products'),
  })
  const { rowCount } = await project.database.pool.query(
    "select from pg_trigger where tgrelid = 'products'::regclass and not tgisinternal",
  )
  expect(rowCount).toBe(0)
  expect(json(await project.run(['plan', '--json']))).toMatchObject({ notInFile: [] })
  // What happened to it can still be asked for.
  const asked = await Promise.all(
    [
      ['history', dataset],
      ['history', 'verify', dataset],
      ['served-at', dataset, '2020-01-01'],
      ['incident', 'export', dataset, '--since', '2020-01-01'],
    ].map((args) => project.run(args)),
  )
  expect(asked.map(({ code, stderr }) => ({ code, stderr }))).toEqual(asked.map(() => ({ code: 0, stderr: '' })))
  expect(asked[0]?.stdout).toContain('capture.detached')
  expect(await project.run(['detach', 'never-applied'])).toMatchObject({
    stderr: expect.stringContaining('UNKNOWN_DATASET'),
  })
})
