import { expect, test } from 'vitest'
import type { ConfigInput } from '../../schemas/config.ts'
import { testProject } from './project.ts'
import { json } from './run.ts'

test('a gate that cannot work is told by plan, apply and doctor, and nothing is changed', async () => {
  const project = await testProject()
  const { dataset } = project
  const withGates = (user: object) => (definition: ConfigInput) => ({
    ...definition,
    datasets: { [dataset]: { ...definition.datasets[dataset], gates: { user } } } as ConfigInput['datasets'],
  })
  await project.define(withGates({ free: { kind: 'sql', sql: 'select * from products' } }))
  for (const args of [['plan'], ['apply', '--yes']]) {
    const ran = await project.run(args)
    expect(ran).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/DEFINITION_INVALID: .*gates\.user\.free\.sql: expected a query/),
    })
  }
  expect((await project.database.pool.query('select from snapflip.definitions')).rowCount).toBe(0)

  const hook = { kind: 'webhook', secretEnv: 'NOT_SET' }
  await project.define(
    withGates({
      unset: { ...hook, url: 'https://desk.example.com/' },
      local: { ...hook, secretEnv: 'PATH', url: 'http://127.0.0.1:1/', allowHosts: ['127.0.0.1'] },
    }),
  )
  const { checks } = json<{ checks: Array<{ check: string }> }>(await project.run(['doctor', '--json']))
  expect(checks.filter(({ check }) => check.startsWith('gate '))).toMatchObject([
    { check: `gate ${dataset} user:unset`, code: 'CONFIG_INVALID', found: expect.stringContaining('NOT_SET') },
    { check: `gate ${dataset} user:local`, ok: true, found: 'webhook at 127.0.0.1:1 (127.0.0.1)' },
  ])
})
