import { beforeAll, expect, test } from 'vitest'
import { append } from '../../src/changelog/append.ts'
import { type Project, testProject, withIndexes } from './project.ts'
import { json } from './run.ts'

/** An index of events has no table: a version is proven from the events themselves, as its watermark sees them. */
let project: Project
const tags: string[] = []

beforeAll(async () => {
  project = await testProject()
  await project.define(withIndexes({ labels: { events: true } }))
  const { pool } = project.database
  const add = (key: string, value: unknown) => append(pool, project.dataset, 'labels', key, value)
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  const worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  const open = await pool.connect()
  try {
    for (let n = 0; n < 50; n++) await add(`key ${n}`, { n })
    await add('key 1', { n: 'again' })
    // Appended before the first version and committed after it: not in that, but in the second.
    await open.query('begin')
    await append(open, project.dataset, 'labels', 'key 2', 'late')
    await append(open, project.dataset, 'labels', 'new', 'late')
    await refresh()
    await open.query('commit')
    await add('key 3', null)
    await add('key 4', 'other')
    await refresh()
    await add('key 5', 'after both')
  } finally {
    open.release()
    worker.kill('SIGTERM')
    await worker.ended
  }
})

async function refresh(): Promise<void> {
  const { tag, status } = json<{ tag: string; status: string }>(
    await project.run(['refresh', project.dataset, '--json']),
  )
  expect(status).toBe('FLIPPED')
  tags.push(tag)
}

async function proof(tag: string): Promise<{ code: number; verdict: string; found: string }> {
  const ran = await project.run(['verify', project.dataset, tag, '--rebuild', '--json'])
  return { code: ran.code, ...json<{ proofs: { labels: { verdict: string; found: string } } }>(ran).proofs.labels }
}

test('each version is what its watermark sees of the events, whatever came since', async () => {
  expect(await proof(tags[0] as string)).toEqual({ code: 0, verdict: 'equal', found: '50 entries, same sums' })
  expect(await proof(tags[1] as string)).toEqual({ code: 0, verdict: 'equal', found: '50 entries, same sums' })
})

test('an event that is another by now is found', async () => {
  await project.database.pool.query(
    `update snapflip.events set value = '"forged"' where key = convert_to('key 7', 'utf8')`,
  )
  expect(await proof(tags[1] as string)).toMatchObject({ code: 12, verdict: 'different' })
})

test('without its watermark nothing is proven: older events may have been compacted', async () => {
  const { pool } = project.database
  await pool.query('delete from snapflip.watermarks where at = (select min(at) from snapflip.watermarks)')
  expect(await proof(tags[0] as string)).toEqual({
    code: 0,
    verdict: 'unproven',
    found: expect.stringMatching(/watermark of v.* is no longer kept.*compacted.*verify shop\w+ --rebuild/),
  })
})
