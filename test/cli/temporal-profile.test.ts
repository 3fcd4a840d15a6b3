import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { freePort } from '../../src/local/free-port.ts'
import { type Project, testProject } from './project.ts'

/** Profiles of Temporal's own environment configuration. */
let project: Project
let env: Record<string, string>
let unused: string

beforeAll(async () => {
  project = await testProject()
  unused = `127.0.0.1:${await freePort()}`
  const file = join(project.folder, 'temporal.toml')
  const { address, namespace } = project.temporal
  await writeFile(file, `[profile.here]\naddress = "${address}"\nnamespace = "${namespace}"\n`)
  env = { TEMPORAL_CONFIG_FILE: file }
})

const using = (profile: string) =>
  project.define((definition) => ({
    ...definition,
    temporal: { address: unused, namespace: 'unused', taskQueue: project.temporal.taskQueue, profile },
  }))

test("a profile's values come first, and doctor names the address that is asked", async () => {
  await using('here')
  const { address, namespace } = project.temporal
  const doctor = await project.run(['doctor'], { env })
  expect(doctor.stdout).toMatch(new RegExp(`ok +temporal +${address}, namespace ${namespace}`))
  expect(doctor.stdout).not.toContain(unused)
  expect(await project.run(['cancel', project.dataset], { env })).toMatchObject({ code: 0 })
})

test('a profile that is not there is a fault of the definition', async () => {
  await using('nope')
  const expected =
    /CONFIG_INVALID: temporal\.profile: expected the profile "nope" in .*temporal\.toml, found: .*not found/
  for (const args of [['cancel', project.dataset], ['worker']])
    expect(await project.run(args, { env })).toMatchObject({ code: 2, stderr: expect.stringMatching(expected) })
  const doctor = await project.run(['doctor'], { env })
  expect(doctor.stdout).toMatch(/NOT OK +temporal[\s\S]*expected the profile "nope"/)
})

test('a file of profiles that cannot be read is told without what it holds', async () => {
  await using('here')
  const file = join(project.folder, 'broken.toml')
  await writeFile(file, '[profile.here]\napi_key = "sekret-4711" x\n')
  const ran = await project.run(['cancel', project.dataset], { env: { TEMPORAL_CONFIG_FILE: file } })
  expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('CONFIG_INVALID: temporal.profile') })
  expect(ran.stderr).not.toContain('sekret')
})
