import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { type Project, testProject } from './project.ts'
import { json } from './run.ts'

const PASSWORD = 'sehr-geheim'

let project: Project
let folder: string

beforeAll(async () => {
  project = await testProject()
  folder = await mkdtemp(join(tmpdir(), 'snapflip-init-'))
  await project.database.pool.query(
    'create table public."Odd Table" (a int, "b C" int, primary key ("b C", a)); create table public.keyless (a int)',
  )
  await project.database.pool.query(
    `create table public."two\nlines" ("a\r'b\\\u2028c" int primary key); create table public."no key\n}, evil: { ("  (a int)`,
  )
})
afterAll(() => rm(folder, { recursive: true }))

const env = () => ({ DATABASE_URL: project.database.url, TEMPORAL_ADDRESS: project.temporal.address })
const init = (...args: string[]) => project.run(['init', ...args], { cwd: folder, env: env() })
const read = (file: string) => readFile(join(folder, file), 'utf8')

test('writes a definition that plan accepts, without a credential, whatever tables are named', async () => {
  const made = await init('--store', `redis://:${PASSWORD}@127.0.0.1:1/0`, '--dataset', 'shop')
  expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/Left out, without a primary key: 2 tables/) })
  expect(await read('snapflip.config.ts')).not.toContain(PASSWORD)
  expect((await init('--force')).code).toBe(0)
  const planned = await project.run(['plan', '--json'], { cwd: folder, env: env() })
  expect(json(planned)).toMatchObject({
    datasets: [
      {
        dataset: 'shop',
        indexes: [{ from: 'public."Odd Table"' }, { from: 'public.products' }, { from: 'public."two\nlines"' }],
      },
    ],
  })
})

test('never overwrites a definition unless it is told to', async () => {
  const again = await init('--dataset', 'other')
  expect(again.code).toBe(2)
  expect(again.stderr).toMatch(/found one\. Edit it, or overwrite it with --force/)
})

test("writes a section for assistants and an incident runbook, filled in for the definition's datasets", async () => {
  expect(await readdir(folder)).not.toContain('.cursor')
  const section = await read('CLAUDE.md')
  expect(section.match(/^## .*/gm)).toEqual([
    '## Words',
    '## Refresh policy',
    '## What may not be done',
    '## In an incident',
  ])
  expect(section).toMatch(/## Refresh policy\n\n- \*\*shop\*\* \(Odd_Table, products, two_lines\)\n {2}- \S/)
  const runbook = await read('runbooks/snapflip-incident.md')
  expect(runbook).toContain('npx snapflip rollback shop --reason')
  expect(runbook).toMatch(/^## shop\n\nIndexes: Odd_Table, products, two_lines. Stores: \S+. The last 5 versions/m)
})

test('again: what is between the marks follows the definition, everything else stays byte for byte', async () => {
  const mine = '# My repository\n\nmy rules\n'
  await writeFile(join(folder, 'CLAUDE.md'), `${mine}${await read('CLAUDE.md')}\nand more of mine`)
  const definition = await read('snapflip.config.ts')
  await writeFile(join(folder, 'snapflip.config.ts'), definition.replace('shop: {', 'boutique: {'))
  const ran = await init('--json', '--agents', 'claude,cursor')
  expect(json(ran)).toMatchObject({
    definition: 'kept',
    guides: [{ change: 'updated' }, { change: 'updated' }, { change: 'written' }],
  })
  const text = await read('CLAUDE.md')
  expect(text.startsWith(mine)).toBe(true)
  expect(text.endsWith('<!-- snapflip:end -->\n\nand more of mine')).toBe(true)
  expect(text).toContain('**boutique**')
  expect(text).not.toContain('**shop**')

  const rules = await read('.cursor/rules/snapflip.mdc')
  const [, head = ''] = /^---\n([\s\S]*?)\n---\n/.exec(rules) ?? []
  expect(parse(head)).toMatchObject({ alwaysApply: true })
  const section = (file: string) => /snapflip:begin[\s\S]*snapflip:end/.exec(file)?.[0]
  expect(section(rules)).toBe(section(text))

  expect(json(await init('--json', '--agents', 'claude,cursor'))).toMatchObject({
    guides: [{ change: 'kept' }, { change: 'kept' }, { change: 'kept' }],
  })
})

test('damaged marks and names that are none change nothing', async () => {
  const before = await read('CLAUDE.md')
  const damaged = before.replace('<!-- snapflip:end -->', '')
  await writeFile(join(folder, 'CLAUDE.md'), damaged)
  await rm(join(folder, 'runbooks'), { recursive: true })
  const refused = await init()
  expect(refused).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/snapflip:end mark after it in .*CLAUDE\.md/),
  })
  expect(await read('CLAUDE.md')).toBe(damaged)
  expect(await readdir(folder)).not.toContain('runbooks')
  expect(await init('--agents', 'claude,emacs')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/claude, cursor.*"emacs"/),
  })
})

test('says what it lacks', async () => {
  const nowhere = await project.run(['init', '--force'], { cwd: folder, env: { DATABASE_URL: '' } })
  expect(nowhere.code).toBe(2)
  expect(nowhere.stderr).toMatch(/PostgreSQL URL in DATABASE_URL or after --database, found neither/)
})
