import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { waitUntil } from '../../src/local/wait-until.ts'
import { type TestTemporal, testDatabase, testFolder, testRedis, testTemporal } from '../support/services.ts'
import { snapflip, startSnapflip } from './run.ts'

/** The README's five minutes, block by block as they stand there: only addresses are those of this run. */
const root = join(import.meta.dirname, '../..')
const readme = await readFile(join(root, 'README.md'), 'utf8')
const blocks = [...readme.matchAll(/^```(sh|ts)\n([\s\S]*?)^```/gm)].map(([, kind, text = '']) => ({ kind, text }))

/** The one block of that kind that holds a text. */
function block(kind: string, holding: string): string {
  const found = blocks.filter((candidate) => candidate.kind === kind && candidate.text.includes(holding))
  expect(found, holding).toHaveLength(1)
  return found[0]?.text ?? ''
}

/** Command lines of snapflip, as words. */
const commands = (text: string) =>
  [...text.matchAll(/^npx snapflip ([^#\n]*)/gm)].map(([, line = '']) =>
    [...line.trim().matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? ''),
  )

let folder: string
let redisUrl: string
let worker: ReturnType<typeof startSnapflip>
let temporal: TestTemporal
let env: Record<string, string>
let query: (sql: string) => Promise<unknown>

const here = (text: string) =>
  text
    .replaceAll('redis://localhost:6379/0', redisUrl)
    .replace(/^( *)datasets: {/m, `$1temporal: ${JSON.stringify(temporal)},\n$1datasets: {`)
const run = (args: readonly string[]) => snapflip(args, { cwd: folder, env })

beforeAll(async () => {
  const [path, database, redis, ofTest] = await Promise.all([
    testFolder(),
    testDatabase({ migrated: false }),
    testRedis(),
    testTemporal(),
  ])
  folder = path.path
  redisUrl = `${redis.url}?prefix=${redis.prefix}`
  temporal = ofTest
  env = { DATABASE_URL: database.url }
  query = (sql) => database.pool.query(sql)
  await query(`create table products (
      id integer primary key, sku text not null, name text not null, price_cents integer not null,
      category text not null, hidden boolean not null default false);
    insert into products
      select n, 'sku-' || n, 'Product ' || n, n * 100, case when n % 2 = 0 then 'lamps' else 'chairs' end
        from generate_series(1, 100) n`)
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
})

test('five minutes to a first flip: init, the definition, plan, apply, worker, refresh, get', async () => {
  const [init, ...others] = commands(block('sh', 'snapflip init'))
  expect(await run(init as string[])).toMatchObject({ code: 0 })
  // "edit it": what the README shows is what it says.
  await writeFile(join(folder, 'snapflip.config.ts'), here(block('ts', 'defineConfig')))
  const verbs = []
  for (const words of others) {
    verbs.push(words[0])
    if (words.at(-1) === '&') {
      worker = startSnapflip(words.slice(0, -1), { cwd: folder, env })
      continue
    }
    const ran = await run(words)
    expect({ words, ...ran }).toMatchObject({ code: 0 })
    if (words[0] === 'get')
      expect(JSON.parse(ran.stdout)).toEqual({ sku: 'sku-42', name: 'Product 42', price_cents: 4200 })
  }
  expect(verbs).toEqual(['plan', 'apply', 'worker', 'refresh', 'get'])
})

test('reading: the snippet has its types, and reads what is there', async () => {
  const snippet = here(block('ts', "from 'snapflip'"))
  const own = snippet.replace("'snapflip'", `'${join(root, 'src/index.ts')}'`)
  const program = `${own.replaceAll(/^await (shop|pin)\.(.*?)\)(.*)$/gm, 'console.log(JSON.stringify(await $1.$2)))$3')}\nawait shop.close()\n`
  await writeFile(join(folder, 'read.ts'), program)
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await writeFile(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      extends: join(root, 'tsconfig.json'),
      compilerOptions: {
        rewriteRelativeImportExtensions: false,
        typeRoots: [join(root, 'node_modules/@types')],
        lib: ['esnext'],
      },
      include: [],
      files: ['read.ts'],
    }),
  )
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  await promisify(execFile)(process.execPath, [tsc, '-p', folder]).catch(({ stdout }) => expect(stdout).toBe(''))
  const { stdout } = await promisify(execFile)(process.execPath, ['--no-warnings', join(folder, 'read.ts')])
  const [one, list, many] = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(one).toMatchObject({ sku: 'sku-42' })
  expect(list.slice(0, 3)).toEqual([2, 4, 6])
  expect(many).toHaveLength(3)
})

test('when something went wrong: rollback, diff, history, resume', async () => {
  await query('update products set price_cents = 1 where id <= 10')
  expect(await run(['refresh', 'shop'])).toMatchObject({ code: 0 })
  const { stdout } = await run(['versions', 'shop', '--json'])
  const tags = [...new Set(stdout.match(/v\d{8}-\d\d/g))].sort()
  const lines = commands(block('sh', 'snapflip rollback'))
  expect(lines.map(([verb]) => verb)).toEqual(['rollback', 'diff', 'history', 'resume'])
  for (const words of lines) {
    const ran = await run(
      words.map((word) =>
        word.endsWith('-01') ? (tags[0] as string) : word.endsWith('-02') ? (tags[1] as string) : word,
      ),
    )
    expect({ words, ...ran }).toMatchObject({ code: 0 })
    if (words[0] === 'diff') expect(ran.stdout).toMatch(/products +0 +10 +0/)
  }
  const read = await waitUntil('the version before to be read', async () => {
    const ran = await run(['get', 'shop', 'products', '1'])
    return ran.stdout.includes('"price_cents":100') ? ran : undefined
  })
  expect(read.code).toBe(0)
})
