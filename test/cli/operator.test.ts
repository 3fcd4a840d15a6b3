import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ConfigInput } from '../../schemas/config.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { INDEXES, type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

/** What a person at the prompt asks beside the way of the data, over one dataset with two versions. */
let project: Project
let worker: ReturnType<typeof startSnapflip>
let first: string
let second: string

const STOCK = { from: 'public.products', key: ['category', 'id'], value: ['sku'] }

async function refresh(): Promise<string> {
  const ran = await project.run(['refresh', project.dataset, '--json'])
  return json<{ tag: string }>(ran).tag
}

/** Applies the dataset with other fields, and starts a worker that knows them. */
async function redefine(fields: Partial<ConfigInput['datasets'][string]>): Promise<void> {
  await project.define((definition) => {
    Object.assign(definition.datasets[project.dataset] ?? {}, fields)
    return definition
  })
  expect((await project.run(['apply', '--yes', '--move'])).code).toBe(0)
  worker.kill('SIGTERM')
  await worker.ended
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
}

beforeAll(async () => {
  project = await testProject()
  project.definition.datasets[project.dataset] = { stores: ['main'], indexes: { ...INDEXES, stock: STOCK } }
  await project.define((definition) => definition)
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  first = await refresh()
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

test('a hold says whose hold it replaces', async () => {
  await project.run(['hold', project.dataset, '--reason', 'a look at the prices'])
  const again = await project.run(['hold', project.dataset, '--reason', 'the names, too'])
  expect(again.stdout).toMatch(/: the names, too\. It replaces the hold by \S+: a look at the prices\./)
  const { entries } = json<{ entries: unknown[] }>(
    await project.run(['history', project.dataset, '--kind', 'hold', '--json']),
  )
  expect(entries[0]).toMatchObject({ detail: { replaces: { reason: 'a look at the prices' } } })
  await project.run(['resume', project.dataset, '--reason', 'looked'])
})

test('the first version has nothing to compare with, and its card says no more than that', async () => {
  const shown = await project.run(['show', project.dataset, first])
  expect(shown.stdout).toMatch(/products +unique +1800 +\S+ \S+ +full +- /)
  expect(shown.stdout).toMatch(/sourceSchema +products +shape \w+$/m)
  expect((await project.run(['show', project.dataset, second])).stdout).toMatch(/shape \w+, as before/)
})

test('history tells the builds of one refresh apart by their index', async () => {
  const { entries } = json<{ entries: { detail: { index: string } }[] }>(
    await project.run(['history', project.dataset, '--kind', 'build.begun', '--limit', '100', '--json']),
  )
  expect(new Set(entries.map(({ detail }) => detail.index))).toEqual(new Set(['products', 'byCategory', 'stock']))
  expect((await project.run(['history', project.dataset, '--kind', 'build.begun'])).stdout).toContain('index products')
})

test('what little was written is told in bytes, not as 0.0 MB', async () => {
  const history = json<{ entries: { detail: { status: string; summary: string } }[] }>(
    await project.run(['history', project.dataset, '--kind', 'refresh.closed', '--json']),
  )
  const [last] = history.entries.filter(({ detail }) => detail.status === 'FLIPPED')
  expect(last?.detail.summary).toMatch(/products: \+0 ~5 -0 of 1800, [1-9][\d.]* (B|KiB) written/)
})

test('what moves a dataset, or takes capture off a table, wants more than --yes', async () => {
  const triggers = async () =>
    (await project.database.pool.query("select from pg_trigger where tgrelid = 'products'::regclass")).rowCount
  const before = await triggers()
  await project.define((definition) => ({ ...definition, stores: { main: 'file:./elsewhere' } }))
  const moved = await project.run(['apply', '--yes'])
  expect(moved).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(
      /USAGE: Expected --move.*this would move shop\w+ from file:.*versions to file:.*elsewhere/,
    ),
  })
  await project.define((definition) => {
    const dataset = definition.datasets[project.dataset]
    if (dataset !== undefined) dataset.indexes = { only: { ...INDEXES.products, capture: 'none' } }
    return definition
  })
  const detached = await project.run(['apply', '--yes'])
  expect(detached.stderr).toMatch(
    /USAGE: Expected --move.*this would take capture off public\.products\. Nothing was applied/,
  )
  expect(await triggers()).toBe(before)
  await project.define((definition) => definition)
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
})

test('a worker that polls shows a sign of life', async () => {
  expect((await stat(join(project.folder, 'work', 'alive'))).isFile()).toBe(true)
})

test('show --keys tells which keys a gate found to be ambiguous, from the blocks of the refused version', async () => {
  await project.database.pool.query(`create table twice (sku text, name text); insert into twice
    select 'sku' || i, 'x' from generate_series(1, 50) i; insert into twice values ('sku7', 'another'), ('sku8', 'another')`)
  await redefine({ indexes: { twice: { from: 'public.twice', key: ['sku', "'s'"], value: ['name'] } } })
  const refused = await project.run(['refresh', project.dataset, '--json'])
  expect(refused.code).toBe(11)
  const { tag } = json<{ tag: string }>(refused)
  const hashed = await project.run(['show', project.dataset, tag])
  expect(hashed.stdout).toMatch(/reject +uniqueness +twice +2 keys have more than one value \(.*--keys/)
  expect(hashed.stdout).not.toContain('sku7')
  const shown = await project.run(['show', project.dataset, tag, '--keys'])
  expect(shown.stdout).toMatch(/uniqueness of twice, some keys: "sku[78], s", "sku[78], s"/)
  const { keys } = json<{ keys: Record<string, string> }>(
    await project.run(['show', project.dataset, tag, '--keys', '--json']),
  )
  expect(Object.values(keys).sort()).toEqual(['sku7, s', 'sku8, s'])
})

test('status says of a bake under way how long it lasts and what comes of it', async () => {
  await redefine({ indexes: INDEXES, bake: { forMs: 600_000 } })
  const bakes = await project.run(['refresh', project.dataset, '--no-wait'])
  expect(bakes.code).toBe(0)
  const told = await waitUntil('the bake to have begun', async () => {
    const { stdout } = await project.run(['status', project.dataset])
    return /^bake .*$/m.exec(stdout)?.[0]
  })
  expect(told).toMatch(
    /^bake +v\S+, \d+ min left: 0 reads by 0 readers so far; taken back by itself if its readers fare worse$/,
  )
})
