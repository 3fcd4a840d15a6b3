import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ConfigInput } from '../../schemas/config.ts'
import { freePort } from '../../src/local/free-port.ts'
import { startRedis } from '../../src/local/redis.ts'
import { testBucket } from '../support/services.ts'
import { INDEXES, type Project, testProject, withIndexes } from './project.ts'
import { json, type Ran } from './run.ts'

const PASSWORD = 'sekret-4711'

let project: Project
beforeAll(async () => {
  project = await testProject()
  await project.database.pool.query('create view public.some as select * from public.products')
})

/** What a refused command must have left as it was. */
async function state(): Promise<unknown> {
  const { rows } = await project.database.pool.query(
    `select (select count(*) from snapflip.datasets) as datasets, (select count(*) from snapflip.definitions) as definitions,
            (select count(*) from snapflip.history) as history, (select count(*) from snapflip.refreshes) as refreshes,
            (select count(*) from pg_trigger where tgrelid = 'products'::regclass) as triggers,
            (select count(*) from snapflip.captures) as captures`,
  )
  return [rows, (await readdir(project.folder)).filter((name) => name !== 'versions')]
}

/** Exit code not 0, one clear message, no stack, no credential, nothing changed; the same as one document with --json. */
async function refused(args: string[], code: string, exit: number, expected: RegExp): Promise<void> {
  const before = await state()
  const plain = await project.run(args)
  expect({ code: plain.code, stderr: plain.stderr }).toEqual({ code: exit, stderr: expect.stringMatching(expected) })
  expect(plain.stderr.match(/^snapflip: [A-Z_]+: /gm)).toEqual([`snapflip: ${code}: `])
  const document = await project.run([...args, '--json'])
  expect(json(document)).toMatchObject({ code, message: expect.stringMatching(expected), details: expect.any(Object) })
  expect(document.code).toBe(exit)
  for (const ran of [plain, document]) expectDiscreet(ran)
  expect(await state()).toEqual(before)
}

function expectDiscreet({ stdout, stderr }: Ran): void {
  expect(stdout + stderr).not.toMatch(/^\s+at /m)
  expect(stdout + stderr).not.toContain(PASSWORD)
}

const using = (change: Partial<ConfigInput>) => project.define((definition) => ({ ...definition, ...change }))

describe('what is not there', () => {
  beforeAll(() => project.define((definition) => definition))

  test.each([
    ['refresh', 'nope'],
    ['rollback', 'nope', '--reason', 'x'],
    ['cancel', 'nope'],
    ['hold', 'nope', '--reason', 'x'],
    ['resume', 'nope', '--reason', 'x'],
    ['status', 'nope'],
    ['versions', 'nope'],
    ['show', 'nope', 'v20260518-01'],
    ['get', 'nope', 'products', '1'],
    ['explain', 'nope', 'products', '1'],
    ['diff', 'nope', 'v20260518-01', 'v20260518-02'],
    ['verify', 'nope'],
    ['history', 'nope'],
    ['plan', 'nope'],
    ['apply', 'nope'],
    ['detach', 'nope'],
  ])('an unknown dataset: %s', async (...args) => {
    const ran = await project.run(args)
    expect(ran.code).toBe(3)
    expect(ran.stderr).toMatch(/^snapflip: UNKNOWN_DATASET: Expected a dataset of .*\(shop\w+\), found "nope"\.\n$/)
  })

  test('a version to read, when none was built yet', () =>
    refused(['get', project.dataset, 'products', '1'], 'NO_ACTIVE_VERSION', 3, /snapflip refresh shop/))

  test.each(['v1', 'v20200101-01'])('a version tagged %s', async (tag) => {
    await refused(['show', project.dataset, tag], 'UNKNOWN_VERSION', 3, /there is none yet.*found "v/)
    await refused(['rollback', project.dataset, '--to', tag, '--reason', 'x'], 'UNKNOWN_VERSION', 3, /found "v/)
    await refused(['diff', project.dataset, tag, tag], 'UNKNOWN_VERSION', 3, /found "v/)
    await refused(['verify', project.dataset, tag], 'UNKNOWN_VERSION', 3, /found "v/)
  })

  test('a definition', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'snapflip-empty-'))
    const ran = await project.run(['status'], { cwd: empty })
    await rm(empty, { recursive: true })
    expect(ran.code).toBe(2)
    expect(ran.stderr).toMatch(/CONFIG_INVALID: .*snapflip init/)
    await refused(['status', '--config', 'nope.ts'], 'CONFIG_INVALID', 2, /nope\.ts, found no file/)
  })

  test('an applied definition: a hold says to apply', () =>
    refused(['hold', project.dataset, '--reason', 'x'], 'NOT_APPLIED', 5, /snapflip apply/))
})

describe('a definition that the database does not fit', () => {
  const { products } = INDEXES
  test.each<[what: string, index: Record<string, unknown>, expected: RegExp]>([
    ['a missing table', { ...products, from: 'public.nope' }, /table or view public\.nope, found none/],
    ['a missing column', { ...products, value: ['sku', 'nope'] }, /has no column nope; it has id, sku/],
    ['a missing column in the key', { ...products, key: 'nope' }, /key: nope: .*does not exist/],
    ['SQL that does not parse', { ...products, where: 'not (hidden' }, /where: not \(hidden: /],
    [
      'a statement behind an expression',
      { ...products, where: 'true); drop table products; --' },
      /where: true\); drop/,
    ],
    ['a sub-select', { ...products, where: 'id in (select 1)' }, /uses a sub-select/],
    ['a volatile function', { ...products, where: 'random() < 0.5' }, /random\(\), which is volatile/],
    ['the time of the build', { ...products, where: 'now() > now()' }, /now\(\)/],
    ['a view to be captured', { ...products, from: 'public.some' }, /it is a view.*capture: "none"/],
  ])('%s', async (_what, index, expected) => {
    await project.define(withIndexes({ products: index }))
    await refused(['apply', '--yes'], 'DEFINITION_INVALID', 2, expected)
    await refused(['plan'], 'DEFINITION_INVALID', 2, expected)
  })

  test('a missing table, before anything was made in the database', async () => {
    const bare = await testProject({ migrated: false })
    await bare.define(withIndexes({ products: { ...products, from: 'public.nope' } }))
    const ran = await bare.run(['apply', '--yes'])
    expect(ran).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/DEFINITION_INVALID: .*public\.nope, found none/),
    })
    const { rowCount } = await bare.database.pool.query("select from pg_namespace where nspname = 'snapflip'")
    expect(rowCount).toBe(0)
  })

  test('an index without a key', async () => {
    await project.define(withIndexes({ products: { from: 'public.products', value: ['sku'] } }))
    await refused(['apply', '--yes'], 'CONFIG_INVALID', 2, /indexes\.products\.key: expected a text or a list/)
  })
})

describe('PostgreSQL', () => {
  test('that does not answer', async () => {
    await using({ database: `postgres://u:${PASSWORD}@127.0.0.1:${await freePort()}/shop` })
    for (const args of [
      ['apply', '--yes'],
      ['versions', project.dataset],
      ['hold', project.dataset, '--reason', 'x'],
      ['migrate'],
    ])
      await refused(args, 'POSTGRES_UNREACHABLE', 5, /127\.0\.0\.1:\d+, found: .*ECONNREFUSED.*Check `database`/)
  })

  test('that knows no such user', async () => {
    const url = new URL(project.database.url)
    url.password = PASSWORD
    await using({ database: url.href })
    await refused(['migrate'], 'POSTGRES_UNREACHABLE', 5, /password authentication failed/)
  })

  test('whose tables are not there', async () => {
    const bare = await testProject({ migrated: false })
    const ran = await bare.run(['versions', bare.dataset])
    expect(ran.code).toBe(5)
    expect(ran.stderr).toMatch(/REGISTRY_NOT_MIGRATED: .*0001_registry.*Run `snapflip migrate`/)
    expect((await bare.run(['worker'])).stderr).toMatch(/REGISTRY_NOT_MIGRATED/)
  })
})

describe('Temporal', () => {
  test('that does not answer', async () => {
    await using({ temporal: { address: `127.0.0.1:${await freePort()}`, apiKey: PASSWORD, tls: false } })
    for (const args of [
      ['refresh', project.dataset],
      ['cancel', project.dataset],
      ['rollback', project.dataset, '--reason', 'x'],
    ])
      await refused(
        args,
        'TEMPORAL_UNREACHABLE',
        5,
        /Expected Temporal to answer at 127\.0\.0\.1:\d+, found no answer\. Start it/,
      )
  })

  test('that does not answer a worker', async () => {
    await using({ temporal: { address: `127.0.0.1:${await freePort()}` } })
    const ran = await project.run(['worker'])
    expect(ran).toMatchObject({ code: 5, stderr: expect.stringMatching(/snapflip: TEMPORAL_UNREACHABLE: .*Start it/) })
    expectDiscreet(ran)
  })

  test('without the namespace', async () => {
    await using({ temporal: { ...project.temporal, namespace: 'nope' } })
    await refused(['refresh', project.dataset], 'TEMPORAL_UNREACHABLE', 5, /no namespace nope there\. Register it/)
  })

  test('that is down hides nothing else of the status', async () => {
    await using({ temporal: { address: `127.0.0.1:${await freePort()}` } })
    const ran = await project.run(['status', '--json'])
    expect(ran.code).toBe(5)
    expect(json(ran)).toMatchObject({
      datasets: [{ dataset: project.dataset, registry: { applied: false } }],
      errors: [{ code: 'TEMPORAL_UNREACHABLE' }],
    })
  })
})

describe('a store', () => {
  const apply = (code: string, exit: number, expected: RegExp) => refused(['apply', '--yes'], code, exit, expected)

  test('whose URL is none', async () => {
    await using({ stores: { main: `ftp://u:${PASSWORD}@h/` } })
    await apply('CONFIG_INVALID', 2, /scheme ftp:, expected redis:/)
  })

  test('in a Redis that does not answer', async () => {
    await using({ stores: { main: `redis://:${PASSWORD}@127.0.0.1:${await freePort()}/0` } })
    await apply('STORE_UNREACHABLE', 5, /redis:\/\/127\.0\.0\.1:\d+/)
    await refused(['get', project.dataset, 'products', '1'], 'STORE_UNREACHABLE', 5, /redis:\/\/127\.0\.0\.1:\d+/)
  })

  test('in a Redis that evicts', async () => {
    const redis = await startRedis({ maxmemoryPolicy: 'allkeys-lru' })
    try {
      await using({ stores: { main: redis.url } })
      await apply('STORE_UNSUITABLE', 5, /maxmemory-policy allkeys-lru, expected noeviction/)
    } finally {
      await redis.stop()
    }
  })

  test('in a Redis with too little memory left', async () => {
    const redis = await startRedis({ settings: { maxmemory: '1600kb' } })
    try {
      await using({ stores: { main: redis.url } })
      await project.database.pool.query(
        'create table public.wide as select i as id, repeat(md5(i::text), 100) as text from generate_series(1, 2000) i; analyze public.wide',
      )
      await project.define((definition) => ({
        ...withIndexes({ wide: { from: 'public.wide', key: 'id', value: ['text'] } })(definition),
        stores: { main: redis.url },
      }))
      await apply('STORE_FULL', 5, /Expected room for about \d+ bytes .* found \d+ free/)
    } finally {
      await redis.stop()
    }
  })

  test('in a bucket that is missing', async () => {
    const { endpoint, region } = await testBucket()
    const query = new URLSearchParams({ region, endpoint, forcePathStyle: 'true' })
    await using({ stores: { main: `s3://no-such-bucket/x?${query}` } })
    await apply('STORE_UNSUITABLE', 5, /no-such-bucket/)
  })

  test('in a folder that cannot be written', async () => {
    const file = join(await mkdtemp(join(tmpdir(), 'snapflip-file-')), 'file')
    await writeFile(file, '')
    await using({ stores: { main: `file:${file}/versions` } })
    await apply('STORE_UNSUITABLE', 5, /file/)
    await rm(join(file, '..'), { recursive: true })
  })
})

test.runIf(process.getuid?.() === 0 && process.platform === 'linux')(
  'a disk that is full under a folder store is found before anything is changed',
  async () => {
    const run = promisify(execFile)
    const disk = await mkdtemp(join(tmpdir(), 'snapflip-disk-'))
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk])
    try {
      await using({ stores: { main: `file:${disk}/versions` } })
      await refused(['apply', '--yes'], 'STORE_FULL', 5, /Expected room for about \d+ bytes/)
    } finally {
      await run('umount', [disk])
      await rm(disk, { recursive: true })
    }
  },
)

describe('init', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'snapflip-init-'))
  })
  afterAll(() => rm(folder, { recursive: true }))
  const init = (...args: string[]) =>
    project.run(['init', ...args], { cwd: folder, env: { DATABASE_URL: project.database.url } })

  test('writes a definition that plan accepts, without a credential, and never overwrites one', async () => {
    await project.database.pool.query(
      'create table public."Odd Table" (a int, "b C" int, primary key ("b C", a)); create table public.keyless (a int)',
    )
    const store = `redis://:${PASSWORD}@127.0.0.1:1/0`
    expect(await init('--store', store)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/Left out, without a primary key/),
    })
    const again = await init()
    expect(again.code).toBe(2)
    expect(again.stderr).toMatch(/found one\. Edit it, or overwrite it with --force/)
    expect((await init('--force')).code).toBe(0)
    const env = { DATABASE_URL: project.database.url, TEMPORAL_ADDRESS: project.temporal.address }
    const planned = await project.run(['plan', '--json'], { cwd: folder, env })
    expect(json(planned)).toMatchObject({
      datasets: [{ dataset: 'shop', indexes: [{ from: 'public."Odd Table"' }, { from: 'public.products' }] }],
    })
  })

  test('says what it lacks', async () => {
    const nowhere = await project.run(['init', '--force'], { cwd: folder, env: { DATABASE_URL: '' } })
    expect(nowhere.code).toBe(2)
    expect(nowhere.stderr).toMatch(/PostgreSQL URL in DATABASE_URL or after --database, found neither/)
  })
})

test('--verbose prints the stack, without credentials', async () => {
  await using({ database: `postgres://u:${PASSWORD}@127.0.0.1:${await freePort()}/shop` })
  const ran = await project.run(['migrate', '--verbose'])
  expect(ran.stderr).toMatch(/^\s+at /m)
  expect(ran.stderr).not.toContain(PASSWORD)
})

test('duplicate keys: the version is refused with its evidence, readers stay where they are', async () => {
  const own = await testProject()
  await own.define(withIndexes({ products: { ...INDEXES.products, key: 'category' } }))
  expect((await own.run(['apply', '--yes'])).code).toBe(0)
  const worker = own.start(['worker', '--work-dir', `${own.folder}/work`])
  try {
    const ran = await own.run(['refresh', own.dataset, '--json'])
    expect(ran.code).toBe(11)
    const outcome = json<{ tag: string }>(ran)
    expect(outcome).toMatchObject({ code: 'REJECTED', status: 'REJECTED', active: null })
    expect((await own.run(['show', own.dataset, outcome.tag])).stdout).toMatch(/reject +uniqueness +products/)
    expect((await own.run(['get', own.dataset, 'products', 'cat1'])).code).toBe(3)
  } finally {
    worker.kill('SIGTERM')
    await worker.ended
  }
})
