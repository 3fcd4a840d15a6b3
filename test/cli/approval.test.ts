import { Client, Connection } from '@temporalio/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { ERRORS } from '../../src/core/errors.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { uniqueName } from '../support/services.ts'
import { type Project, testProject } from './project.ts'
import { expectRefused } from './refused.ts'
import { json, type Ran, type startSnapflip } from './run.ts'

/** People with logins of their own, in the role that `doctor --grants` makes for them; the owner of the tables applies and runs the worker. */
const login = { ana: `ana_${uniqueName()}`, dana: `dana_${uniqueName()}`, cy: `cy_${uniqueName()}` }
type Person = keyof typeof login | 'owner'

let project: Project
let owner = ''
let worker: ReturnType<typeof startSnapflip>
let refresh: ReturnType<typeof startSnapflip>
let tag = ''

beforeAll(async () => {
  project = await testProject()
  const { pool } = project.database
  owner = (await pool.query<{ name: string }>('select session_user as name')).rows[0]?.name ?? ''
  await pool.query((await project.run(['doctor', '--grants'])).stdout)
  for (const name of Object.values(login))
    await pool.query(`create role ${name} login password 'pw' in role snapflip_operator`)
  expect((await as('owner', 'apply', '--yes')).code).toBe(0)
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  await waitUntil('the worker to poll', () => (worker.seen.stderr.includes('worker polls') ? true : undefined))
})
afterAll(async () => {
  worker.kill('SIGTERM')
  await worker.ended
  for (const name of Object.values(login)) await project.database.pool.query(`drop role ${name}`)
})

/** The definition is everybody's; the connection is each person's own. */
async function become(person: Person): Promise<void> {
  const url = new URL(project.database.url)
  if (person !== 'owner') Object.assign(url, { username: login[person], password: 'pw' })
  await project.define((definition) => {
    const dataset = definition.datasets[project.dataset]
    if (dataset !== undefined) {
      dataset.roles = { viewer: [login.cy], approver: [login.ana, login.dana], admin: [owner] }
      dataset.approval = { when: 'always', expiresAfterMs: 3_600_000 }
    }
    return { ...definition, database: url.href }
  })
}

async function as(person: Person, ...args: string[]): Promise<Ran> {
  await become(person)
  return project.run(args)
}

test('a viewer may look, and start nothing', async () => {
  expect((await as('cy', 'status', project.dataset)).code).toBe(0)
  const refused = await as('cy', 'refresh', project.dataset, '--json')
  expect(refused.code).toBe(ERRORS.FORBIDDEN.exit)
  expect(json(refused)).toMatchObject({
    code: 'FORBIDDEN',
    message: expect.stringMatching(/operator.*viewer|viewer.*operator/),
  })
})

test('a refresh waits for a yes, and status says so', async () => {
  await become('ana')
  refresh = project.start(['refresh', project.dataset, '--reason', 'new catalogue', '--json'])
  tag = await waitUntil('the request for an approval', async () => {
    const { rows } = await project.database.pool.query<{ tag: string }>('select tag from snapflip.approval_requests')
    return rows[0]?.tag
  })
  expect((await as('cy', 'status', project.dataset)).stdout).toMatch(new RegExp(`approval.*${tag}.*${login.ana}`))
})

/** As that person: one clear error, and nothing changed. */
async function refused(person: Person, code: keyof typeof ERRORS, expected: RegExp, ...args: string[]): Promise<void> {
  await become(person)
  await expectRefused(project, args, { code, exit: ERRORS[code].exit, expected })
}
const yes = (...options: string[]) => ['approve', project.dataset, tag, ...options]

test('neither who asked for it nor who has not the role can give it, and without a reason nobody', async () => {
  await refused('ana', 'FORBIDDEN', /somebody other than ana_\w+ to approve v/, ...yes('--reason', 'mine'))
  await refused('cy', 'FORBIDDEN', /Expected approver .* for approve, found cy_\w+/, ...yes('--reason', 'looks fine'))
  await refused('dana', 'USAGE', /--reason <text>/, ...yes())
  await refused('cy', 'FORBIDDEN', /Expected operator .* for refresh, found cy_/, 'cancel', project.dataset)
})

test('another may, and readers get the version; who approved is shown afterwards', async () => {
  const approved = await as('dana', ...yes('--reason', 'checked the counts', '--json'))
  expect(json(approved)).toMatchObject({ decision: 'approved', woken: true, approval: { decidedBy: login.dana } })
  const ended = await refresh.ended
  expect(json(ended)).toMatchObject({ status: 'FLIPPED', tag, active: tag })

  expect((await as('cy', 'show', project.dataset, tag)).stdout).toContain(login.dana)
  const served = await as('cy', 'served-at', project.dataset, new Date().toISOString())
  expect(served.stdout).toContain(login.dana)
})

test('a second yes is refused: it was used up, or given, or the time for it is over', async () => {
  const again = yes('--reason', 'again')
  await refused('dana', 'APPROVAL_REFUSED', /to wait for an approval, found its approval used up by flip /, ...again)
  const { pool } = project.database
  await pool.query('update snapflip.approval_requests set used_by = null, used_at = null')
  await refused('dana', 'APPROVAL_REFUSED', /found it approved by dana_\w+ already/, ...again)
  await pool.query(
    `update snapflip.approval_requests set decision = null, decided_by = null, decided_at = null, reason = null,
            expires_at = requested_at + interval '1 ms'`,
  )
  await refused('dana', 'APPROVAL_REFUSED', /found that the request expired at .*Refresh again/, ...again)
})

test('what was refused is in the history, under the name of who tried', async () => {
  const { entries } = json<{ entries: Array<{ actor: string; kind: string }> }>(
    await as('cy', 'history', project.dataset, '--json'),
  )
  const tried = entries.filter(({ kind }) => kind.endsWith('refused')).map(({ actor }) => actor)
  expect(new Set(tried)).toEqual(new Set([login.cy, login.ana, login.dana]))
})

test('policy says who may what, and which definition that was', async () => {
  const { stdout } = await as('cy', 'policy', project.dataset)
  for (const name of [...Object.values(login), owner]) expect(stdout).toContain(name)
})

test('whoever answers what a terminated refresh asked is told that nobody takes it up', async () => {
  await project.database.pool.query('update products set price_cents = price_cents + 1 where id <= 10')
  await become('ana')
  const left = project.start(['refresh', project.dataset, '--reason', 'new prices'])
  const asked = await waitUntil('the request for an approval', async () => {
    const { rows } = await project.database.pool.query<{ tag: string }>(
      'select tag from snapflip.approval_requests where decision is null and expires_at > now()',
    )
    return rows[0]?.tag
  })
  const { address, namespace } = project.temporal
  const connection = await Connection.connect({ address })
  await new Client({ connection, namespace }).workflow.getHandle(WORKFLOW_ID.refresh(project.dataset)).terminate()
  await connection.close()
  expect((await left.ended).stderr).toMatch(/was terminated, and may have moved readers/)
  const { stdout } = await as('dana', 'approve', project.dataset, asked, '--reason', 'checked the counts')
  expect(stdout).toMatch(/Its refresh is gone, so nobody takes this up: `snapflip refresh \w+` builds and asks anew/)
})
