import { NativeConnection, Worker } from '@temporalio/worker'
import { expect, test } from 'vitest'
import { waitUntil } from '../../src/local/wait-until.ts'
import { workflowBundle } from '../support/services.ts'
import { quiet } from '../support/world.ts'
import { testProject } from './project.ts'
import { json, type Ran } from './run.ts'

interface Check {
  check: string
  ok: boolean
  found: string
  todo: string | null
}
const look = (ran: Ran, name: string) => json<{ checks: Check[] }>(ran).checks.find(({ check }) => check === name)

test('doctor asks who takes workflows and who takes builds: two task queues, and either may be left alone', async () => {
  const project = await testProject()
  const { taskQueue, address } = project.temporal
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  const doctor = () => project.run(['doctor', '--json'])

  const alone = await doctor()
  expect(alone.code).toBe(5)
  expect(look(alone, 'worker')).toMatchObject({ ok: false, found: `none polls task queue ${taskQueue}` })
  expect(look(alone, 'builds')).toMatchObject({
    ok: false,
    found: `none polls task queue ${taskQueue}-builds`,
    todo: expect.stringContaining('snapflip worker'),
  })

  // Somebody else's worker on the first queue alone: refreshes would wait at their build.
  quiet()
  const connection = await NativeConnection.connect({ address })
  const half = await Worker.create({ connection, taskQueue, workflowBundle: { codePath: await workflowBundle() } })
  const running = half.run()
  try {
    const seen = await waitUntil('the half worker to be seen', async () => {
      const ran = await doctor()
      return look(ran, 'worker')?.ok ? ran : undefined
    })
    expect(look(seen, 'builds')).toMatchObject({ ok: false })
  } finally {
    half.shutdown()
    await running
    await connection.close()
  }

  const worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  try {
    const whole = await waitUntil('doctor to find all well', async () => {
      const ran = await doctor()
      return ran.code === 0 ? ran : undefined
    })
    expect(look(whole, 'builds')?.found).toMatch(/^1 polls task queue .*-builds$/)
  } finally {
    worker.kill('SIGTERM')
    await worker.ended
  }
})
