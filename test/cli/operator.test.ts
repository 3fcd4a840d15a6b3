import { afterAll, beforeAll, expect, test } from 'vitest'
import { INDEXES, type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

/** What a person at the prompt asks beside the way of the data, over one dataset with two versions. */
let project: Project
let worker: ReturnType<typeof startSnapflip>
let second: string

const STOCK = { from: 'public.products', key: ['category', 'id'], value: ['sku'] }

async function refresh(): Promise<string> {
  const ran = await project.run(['refresh', project.dataset, '--json'])
  return json<{ tag: string }>(ran).tag
}

beforeAll(async () => {
  project = await testProject()
  project.definition.datasets[project.dataset] = { stores: ['main'], indexes: { ...INDEXES, stock: STOCK } }
  await project.define((definition) => definition)
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  await refresh()
  await project.database.pool.query('update products set price_cents = price_cents + 1 where id <= 5')
  second = await refresh()
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
})

test.each(['get', 'explain'])('%s wants as many arguments as the key has parts', async (verb) => {
  const few = await project.run([verb, project.dataset, 'stock', 'cat1'])
  expect(few).toMatchObject({ code: 2, stdout: '' })
  expect(few.stderr).toMatch(/USAGE: Expected 2 arguments as the key of stock in shop\w+, found 1\. Give PART1 PART2/)
  const many = await project.run([verb, project.dataset, 'products', '1', '2'])
  expect(many.stderr).toMatch(/USAGE: Expected 1 argument .*, found 2\. Give KEY/)
  expect((await project.run([verb, project.dataset, 'stock', 'cat1', '1'])).code).toBe(0)
})

test('get of a key that is not there has an exit code of its own', async () => {
  const plain = await project.run(['get', project.dataset, 'products', '4711'])
  expect(plain).toMatchObject({ code: 16, stdout: '', stderr: expect.stringContaining('has no entry for 4711') })
  const document = await project.run(['get', project.dataset, 'byCategory', 'nope', '--json'])
  expect(document.code).toBe(16)
  expect(json(document)).toMatchObject({ found: false, values: [], version: second })
})
