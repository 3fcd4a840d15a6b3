import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

let project: Project
let worker: ReturnType<typeof startSnapflip>
const tags: string[] = []

async function refresh(): Promise<string> {
  const outcome = json<{ tag: string }>(await project.run(['refresh', project.dataset, '--json']))
  return outcome.tag
}

beforeAll(async () => {
  project = await testProject()
  await project.run(['apply', '--yes'])
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  tags.push(await refresh())
  for (const price of [1, 2]) {
    await project.database.pool.query(`update products set price_cents = price_cents + ${price} where id <= 21`)
    tags.push(await refresh())
  }
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
})

const state = async (tag: string) =>
  (
    await project.database.pool.query('select state from snapflip.index_versions where dataset = $1 and tag = $2', [
      project.dataset,
      tag,
    ])
  ).rows[0]?.state

test('a quarantined version is neither a rollback target nor to be named as one; released, it is both again', async () => {
  const [first, second, third] = tags as [string, string, string]
  const forbid = ['quarantine', project.dataset, second, '--reason', 'wrong currency', '--json']
  expect(json(await project.run(forbid))).toMatchObject({ tag: second, quarantined: true })
  // Again: there already.
  expect((await project.run(forbid)).code).toBe(0)
  expect(await state(second)).toBe('quarantined')
  const refused = await project.run(['rollback', project.dataset, '--to', second, '--reason', 'try'])
  expect(refused).toMatchObject({ code: 7, stderr: expect.stringContaining('VERSION_QUARANTINED') })

  const forward = await project.run(['flip', project.dataset, second, '--reason', 'try'])
  expect(forward).toMatchObject({
    code: 7,
    stderr: expect.stringMatching(/VERSION_QUARANTINED: .*wrong currency\. .*`snapflip release \w+ v\S+ --reason …`/),
  })
  const mistyped = await project.run(['flip', project.dataset, 'v20260518', '--reason', 'try'])
  expect(mistyped).toMatchObject({ code: 3, stderr: expect.stringContaining(`lists them all`) })

  const lift = ['release', project.dataset, second, '--reason', 'it was the reader', '--json']
  expect(json(await project.run(lift))).toMatchObject({ tag: second, released: true })
  expect(json(await project.run(lift))).toMatchObject({ released: false })
  expect(await state(second)).toBe('retained')

  await project.run(forbid)
  const back = json<{ from: string; to: string }>(
    await project.run(['rollback', project.dataset, '--reason', 'prices are off', '--json']),
  )
  expect(back).toMatchObject({ from: third, to: first })
  const history = json<{ entries: Array<{ kind: string; version: string; detail: { reason?: string } }> }>(
    await project.run(['history', project.dataset, '--limit', '1000', '--json']),
  )
  const entries = history.entries.filter(({ version, kind }) => version === second && /quarantine|release/.test(kind))
  expect(entries.map(({ kind, detail }) => [kind, detail.reason]).reverse()).toEqual([
    ['quarantine', 'wrong currency'],
    ['release', 'it was the reader'],
    ['quarantine', 'wrong currency'],
  ])
})

test('the version readers are on is left by a rollback, not by a quarantine; an unknown one is named as such', async () => {
  const [first] = tags as [string]
  const active = await project.run(['quarantine', project.dataset, first, '--reason', 'x'])
  expect(active).toMatchObject({ code: 7, stderr: expect.stringContaining(`snapflip rollback ${project.dataset}`) })
  const unknown = await project.run(['quarantine', project.dataset, 'v20200101-01', '--reason', 'x'])
  expect(unknown).toMatchObject({ code: 3, stderr: expect.stringContaining('UNKNOWN_VERSION') })
})
