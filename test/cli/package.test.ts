import { execFile } from 'node:child_process'
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, test } from 'vitest'
import { testFolder } from '../support/services.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const STORE = join(root, 'test/snapshot/vectors-store')

/** A project of somebody else's with the packed package in it. Of what the package needs it has what its package.json names, and no more. */
let consumer: string

beforeAll(async () => {
  const folder = (await testFolder()).path
  const stage = join(folder, 'stage')
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    files: string[]
    dependencies: Record<string, string>
  }
  await mkdir(stage)
  for (const name of ['package.json', 'README.md', 'LICENSE', 'schemas', 'docs', 'runbooks'])
    await cp(join(root, name), join(stage, name), { recursive: true })
  await run('bash', [join(root, 'scripts/build'), join(stage, 'dist')], { cwd: root })
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: stage,
  })
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }]

  consumer = join(folder, 'consumer')
  const modules = join(consumer, 'node_modules')
  await mkdir(join(modules, 'snapflip'), { recursive: true })
  await mkdir(join(modules, '.bin'))
  await run('tar', ['-xzf', join(folder, filename), '-C', join(modules, 'snapflip'), '--strip-components=1'])
  await symlink('../snapflip/dist/src/cli/main.js', join(modules, '.bin/snapflip'))
  for (const name of [...Object.keys(manifest.dependencies), '@types/node', 'typescript']) {
    await mkdir(dirname(join(modules, name)), { recursive: true })
    await symlink(join(root, 'node_modules', name), join(modules, name))
  }
  await writeFile(join(consumer, 'package.json'), '{"name":"consumer","private":true,"type":"module"}')
}, 300_000)

const node = (script: string) => run(process.execPath, ['--input-type=module', '-e', script], { cwd: consumer })

test('npx snapflip tells of its verbs and its version, and refuses what is none', async () => {
  const help = await run('npx', ['--no-install', 'snapflip', '--help'], { cwd: consumer })
  expect(help.stdout).toMatch(/refresh[\s\S]*rollback/)
  const version = await run('npx', ['--no-install', 'snapflip', '--version'], { cwd: consumer })
  expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  await expect(run('npx', ['--no-install', 'snapflip', 'nope'], { cwd: consumer })).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('USAGE'),
  })
})

test('snapflip reads a store', async () => {
  const { stdout } = await node(`
    import { open } from 'snapflip'
    const shop = await open('file:${STORE}', 'shop')
    console.log(JSON.stringify([await shop.get('products', 1), await shop.list('byCategory', ['lamps', 'red'])]))
    await shop.close()`)
  expect(JSON.parse(stdout)).toEqual([{ sku: 'SKU-1', name: 'Produkt № 1', price_cents: 100 }, [2, 2, 3, 1, 0]])
})

test('reading loads neither PostgreSQL nor Temporal, nor the drivers of other stores; the config loads nothing', async () => {
  const loadedBy = async (script: string) => {
    const { stdout } = await node(`
      import { registerHooks } from 'node:module'
      const seen = []
      registerHooks({ load: (url, context, next) => (seen.push(url), next(url, context)) })
      ${script}
      console.log(JSON.stringify(seen))`)
    return JSON.parse(stdout) as string[]
  }
  const reading = await loadedBy(`
    const { open } = await import('snapflip')
    const shop = await open('file:${STORE}', 'shop')
    await shop.get('products', 1)
    await shop.close()`)
  expect(reading.some((url) => url.endsWith('/stores/folder/store.js'))).toBe(true)
  const foreign = /\/node_modules\/(pg|pg-[\w-]+|node-pg-migrate|@temporalio\/[\w-]+|ioredis|@aws-sdk\/[\w-]+)\//
  expect(reading.filter((url) => foreign.test(url))).toEqual([])
  const config = await loadedBy(`await import('snapflip/config')`)
  expect(config.map((url) => url.replace(/^.*\/node_modules\//, ''))).toEqual(['snapflip/dist/src/config.js'])
})

test('what is not exported cannot be imported', async () => {
  await expect(node(`await import('snapflip/dist/src/worker.js')`)).rejects.toThrow(/ERR_PACKAGE_PATH_NOT_EXPORTED/)
})

test('a worker finds its workflows and migrations in the package', async () => {
  const files = await run('find', ['node_modules/snapflip', '-type', 'f'], { cwd: consumer })
  const names = files.stdout.split('\n').map((name) => name.replace('node_modules/snapflip/', ''))
  expect(names).toEqual(
    expect.arrayContaining([
      'dist/workflow-bundle.js',
      'dist/schemas/migrations/0001_registry.sql',
      'schemas/config.schema.json',
      'docs/format.md',
      'runbooks/errors.md',
      'LICENSE',
      'README.md',
    ]),
  )
  expect(names.filter((name) => /\.test\.|^(src|test|bench|\.tools)\//.test(name))).toEqual([])
})

test('its types hold what a consumer writes, and refuse what is wrong', async () => {
  await writeFile(
    join(consumer, 'consumer.ts'),
    `import { isSnapflipError, maxStale, open, type Reader } from 'snapflip'
import { defineConfig } from 'snapflip/config'

type Shop = {
  products: { sku: string; price_cents: number }
  byCategory: number
}
const shop: Reader<Shop> = await open<Shop>('redis://localhost:6379/0', 'shop')
const product = await shop.get('products', 42)
const cents: number | undefined = product?.price_cents
const ids: number[] = await shop.list('byCategory', 'lamps', { fresh: maxStale(1000) })
// @ts-expect-error a price is a number
const text: string | undefined = product?.price_cents
// @ts-expect-error no such index
await shop.get('nope', 1)
export const config = defineConfig({
  database: process.env.DATABASE_URL,
  stores: { hot: process.env.STORE_URL },
  datasets: { shop: { stores: ['hot'], indexes: { products: { from: 'public.products', key: 'id', value: ['sku'] } } } },
})
// @ts-expect-error no such field
defineConfig({ ...config, databse: '' })
// @ts-expect-error a dataset has stores
defineConfig({ database: '', stores: {}, datasets: { shop: { indexes: {} } } })
export const used = [cents, ids, text, isSnapflipError(null)]
`,
  )
  const readme = await readFile(join(root, 'README.md'), 'utf8')
  const snippets = [...readme.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, text = '']) => text)
  expect(snippets.length).toBeGreaterThanOrEqual(2)
  const files = snippets.map((_, n) => `readme-${n}.ts`)
  // What is no module of its own is a field of a dataset.
  const inDataset = (field: string) =>
    `import { defineConfig } from 'snapflip/config'\n` +
    `defineConfig({ database: '', stores: {}, datasets: { shop: { stores: [], indexes: {}, ${field} } } })\n`
  for (const [n, text] of snippets.entries())
    await writeFile(join(consumer, `readme-${n}.ts`), text.includes('import ') ? text : inDataset(text))
  await writeFile(
    join(consumer, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        module: 'nodenext',
        target: 'es2024',
        lib: ['es2024', 'esnext.disposable'],
        strict: true,
        exactOptionalPropertyTypes: true,
        noEmit: true,
        types: ['node'],
      },
      files: ['consumer.ts', ...files],
    }),
  )
  const { stdout } = await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.'], {
    cwd: consumer,
  }).catch((error: { stdout: string }) => error)
  expect(stdout).toBe('')
})
