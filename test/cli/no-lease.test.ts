import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { testProject } from './project.ts'

test('a version that is read without a lease is read even so, and the person is told what protects it', async () => {
  const project = await testProject()
  await project.run(['apply', '--yes'])
  const worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  expect((await project.run(['refresh', project.dataset])).code).toBe(0)
  worker.kill('SIGTERM')
  await worker.ended

  expect((await project.run(['verify', project.dataset])).stderr).not.toContain('No lease')
  // Where leases would lie is no folder: nothing can be written there, root or not.
  const leases = join(project.folder, 'versions', project.dataset, 'leases')
  await rm(leases, { recursive: true, force: true })
  await writeFile(leases, '')
  const verified = await project.run(['verify', project.dataset])
  expect(verified.code).toBe(0)
  expect(verified.stderr).toMatch(/No lease on v\d{8}-01 of .*: its minimum age alone protects it/)
  expect(verified.stderr.match(/No lease/g)).toHaveLength(1)
})
