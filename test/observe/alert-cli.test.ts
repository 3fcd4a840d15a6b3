import { beforeAll, expect, test } from 'vitest'
import type { ConfigInput } from '../../schemas/config.ts'
import { type Project, testProject } from '../cli/project.ts'
import { json } from '../cli/run.ts'

let project: Project
beforeAll(async () => {
  project = await testProject()
})

type Sinks = NonNullable<NonNullable<ConfigInput['alerts']>['sinks']>
const withSinks = (sinks: Sinks) => (definition: ConfigInput) => ({ ...definition, alerts: { sinks } })

interface Check {
  check: string
  ok: boolean
  found: string
  code: string | null
}
const checksOf = async (env: Record<string, string>) =>
  json<{ checks: Check[] }>(await project.run(['doctor', '--json'], { env })).checks.filter(({ check }) =>
    check.startsWith('alerts'),
  )

test.each(['plan', 'apply'])('%s refuses a section that cannot work, and changes nothing', async (verb) => {
  const count = () => project.database.pool.query('select count(*)::int as n from snapflip.definitions')
  await project.define(withSinks({ pager: { kind: 'webhook', url: 'http://a.example/geheim', secretEnv: 'A_SECRET' } }))
  const ran = await project.run(verb === 'apply' ? ['apply', '--yes', '--json'] : ['plan', '--json'])
  expect(ran).toMatchObject({ code: 2, stderr: '' })
  expect(ran.stdout).toContain('alerts.sinks.pager.url: expected an https URL')
  expect(ran.stdout).not.toContain('geheim')
  expect((await count()).rows).toEqual([{ n: 0 }])
})

test('doctor says of each sink whether its secret is set and its host may be sent to', async () => {
  await project.define(
    withSinks({
      open: { kind: 'webhook', url: 'http://127.0.0.1:1/geheim', secretEnv: 'A_SECRET', allowHosts: ['127.0.0.1'] },
      unset: { kind: 'webhook', url: 'https://1.1.1.1/', secretEnv: 'NOT_SET' },
      private: { kind: 'webhook', url: 'https://localhost/geheim', secretEnv: 'A_SECRET' },
      nowhere: { kind: 'webhook', url: 'https://nowhere.invalid/geheim', secretEnv: 'A_SECRET' },
      chat: { kind: 'slack', urlEnv: 'A_URL' },
      secret: { kind: 'slack', urlEnv: 'A_SECRET' },
      lines: { kind: 'log' },
    }),
  )
  const checks = await checksOf({ A_SECRET: 'geheim', A_URL: 'https://10.0.0.1/geheim' })
  expect(checks).toMatchObject([
    { check: 'alerts open', ok: true, found: 'webhook at 127.0.0.1:1 (127.0.0.1)' },
    { check: 'alerts unset', code: 'CONFIG_INVALID', found: expect.stringContaining('variable NOT_SET') },
    { check: 'alerts private', code: 'WEBHOOK_REFUSED', found: expect.stringContaining('public addresses alone') },
    { check: 'alerts nowhere', code: 'WEBHOOK_FAILED', found: expect.stringContaining('to have an address') },
    { check: 'alerts chat', code: 'WEBHOOK_REFUSED', found: expect.stringContaining('expected a public address') },
    { check: 'alerts secret', code: 'WEBHOOK_REFUSED', found: expect.stringContaining('expected a URL') },
    { check: 'alerts lines', ok: true },
  ])
  expect(JSON.stringify(checks)).not.toContain('geheim')
})

test('doctor tells what was not delivered', async () => {
  await project.define((definition) => definition)
  expect(await checksOf({})).toEqual([])
  await project.database.pool.query(`
    with raised as (
      insert into snapflip.alerts (id, kind, dataset, incident, summary, evidence, runbook)
      values (gen_random_uuid(), 'STORE_REBOUND', 'shop', 'x', '', '{}', '') returning id
    )
    insert into snapflip.alert_deliveries (alert, sink, outcome, settled_at, found)
    select id, 'pager', 'refused', now(), 'Expected a.example to take it, found 401.' from raised`)
  expect(await checksOf({})).toMatchObject([
    {
      check: 'alerts undelivered',
      ok: false,
      found: expect.stringMatching(/^1 in three days; the last: STORE_REBOUND of shop at .*, for pager$/),
      todo: expect.stringContaining('found 401'),
    },
  ])
})
