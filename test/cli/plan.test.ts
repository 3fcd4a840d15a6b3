import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { manifestSchema } from '../../schemas/manifest.ts'
import { type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

/** After each loss `plan` announces the full build, and why; the refresh that follows gives the same reason. */
let project: Project
let worker: ReturnType<typeof startSnapflip>

beforeAll(async () => {
  project = await testProject()
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  await refresh()
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
})

const store = (...names: string[]) => join(project.folder, 'versions', project.dataset, ...names)

async function refresh(): Promise<string> {
  const { tag, status } = json<{ tag: string; status: string }>(
    await project.run(['refresh', project.dataset, '--json']),
  )
  expect(status).toBe('FLIPPED')
  return tag
}

interface Planned {
  datasets: [{ lost: string | null; indexes: Array<{ index: string; build: string; reason: string | null }> }]
}

/** What plan says of the store and of `products`, in its document and to people. */
async function planned(): Promise<{ lost: string | null; build: string | undefined; reason: string | null }> {
  const [document, plain] = await Promise.all([
    project.run(['plan', project.dataset, '--json']),
    project.run(['plan', project.dataset]),
  ])
  const [{ lost, indexes }] = json<Planned>(document).datasets
  const products = indexes.find(({ index }) => index === 'products')
  const reason = products?.reason ?? null
  expect(plain.code).toBe(0)
  for (const told of [lost, reason]) if (told !== null) expect(plain.stdout).toContain(told)
  return { lost, build: products?.build, reason }
}

/** Why the refresh that follows built `products` in full: what the manifest tells. */
async function builtBecause(): Promise<string | null> {
  const tag = await refresh()
  const manifest = manifestSchema.parse(JSON.parse(await readFile(store('manifests', tag), 'utf8')))
  return manifest.indexes.products?.reason ?? null
}

test('nothing lost: the next build is incremental', async () => {
  expect(await planned()).toEqual({ lost: null, build: 'incremental', reason: null })
})

test('triggers disabled, then enabled again: changes may have been missed', async () => {
  const { pool } = project.database
  await pool.query('alter table products disable trigger all')
  expect(await planned()).toEqual({
    lost: null,
    build: 'full',
    reason: 'trigger snapflip_capture on public.products is not enabled always',
  })
  await pool.query(
    'alter table products enable always trigger snapflip_capture, enable always trigger snapflip_truncate',
  )
  const { build, reason } = await planned()
  expect({ build, reason }).toEqual({ build: 'full', reason: expect.stringMatching(/disabled and enabled again/) })
  expect(await builtBecause()).toBe(reason)
  expect(await planned()).toEqual({ lost: null, build: 'incremental', reason: null })
})

test("the active version's watermark is not in the database: its history is another", async () => {
  await project.database.pool.query('delete from snapflip.watermarks')
  const { build, reason } = await planned()
  expect({ build, reason }).toEqual({ build: 'full', reason: expect.stringMatching(/LINEAGE_BROKEN/) })
  expect(await builtBecause()).toBe(reason)
})

test('the store lost the manifest of the active version: a retained one is next', async () => {
  const tags = (await readdir(store('manifests'))).sort()
  const [before, active] = tags.slice(-2)
  const expected = {
    lost: expect.stringMatching(
      new RegExp(`has lost ${active}: the next refresh takes .* to ${before} if that is whole`),
    ),
    build: 'full',
    // The watermarks of all that is older were lost above.
    reason: expect.stringMatching(/LINEAGE_BROKEN/),
  }
  await writeFile(store('manifests', active as string), 'scribble')
  expect(await planned()).toEqual(expected)
  await rm(store('manifests', active as string))
  expect(await planned()).toEqual(expected)
})

test('the store came back empty', async () => {
  await rm(store(), { recursive: true })
  const { lost, build, reason } = await planned()
  expect({ lost, build }).toEqual({ lost: expect.stringMatching(/has lost v\d{8}-\d\d$/), build: 'full' })
  expect(reason).toBe(lost)
  expect(await builtBecause()).toBe('the first version of this index')
  expect(await planned()).toEqual({ lost: null, build: 'incremental', reason: null })
})

test('the store came back older', async () => {
  const before = (await readdir(store('pointer'))).sort()
  await project.database.pool.query('update products set price_cents = 1 where id = 1')
  await refresh()
  for (const name of await readdir(store('pointer'))) if (!before.includes(name)) await rm(store('pointer', name))
  const { lost, build } = await planned()
  expect({ lost, build }).toEqual({
    lost: expect.stringMatching(/is not where the last flip left it: .* builds in full if not$/),
    build: 'incremental',
  })
})

test('a policy that was changed is shown by path, before and after, and applied by `apply` alone', async () => {
  const { pool } = project.database
  const [me] = (await pool.query<{ name: string }>('select session_user as name')).rows
  const numbers = async () => (await pool.query('select number from snapflip.definitions order by number')).rows
  await project.define((definition) => {
    const gates = { drift: { sample: 77 } }
    Object.assign(definition.datasets[project.dataset] ?? {}, { gates, roles: { admin: [me?.name ?? ''] } })
    return definition
  })
  const { code, stdout } = await project.run(['plan', project.dataset])
  expect(code).toBe(0)
  expect(stdout).toContain(`${project.dataset}: definition changed\n`)
  expect(stdout.match(/^ {2}~ .*$/gm)).toEqual([
    '  ~ gates.drift.sample: 1000 → 77',
    `  ~ roles: nothing → {"admin":["${me?.name}"]}`,
  ])
  expect(await numbers()).toEqual([{ number: 1 }])
  const applied = await project.run(['apply', '--yes'])
  expect(applied).toMatchObject({ code: 0, stderr: expect.stringContaining('~ gates.drift.sample: 1000 → 77') })
  expect(await numbers()).toEqual([{ number: 1 }, { number: 2 }])
  const after = (await project.run(['plan', project.dataset])).stdout
  expect(after).toContain('definition as applied')
  expect(after).not.toContain(' ~ ')
})
