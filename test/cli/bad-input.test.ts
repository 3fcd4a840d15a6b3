import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ConfigInput } from '../../schemas/config.ts'
import { open, type Reader } from '../../src/index.ts'
import { freePort } from '../../src/local/free-port.ts'
import { startRedis } from '../../src/local/redis.ts'
import { startHttpProxy } from '../stores/http-proxy.ts'
import { testBucket } from '../support/services.ts'
import { startRefusedPostgres, startStandby } from './postgres-servers.ts'
import { INDEXES, type Project, testProject, withIndexes } from './project.ts'
import { expectDiscreet, expectRefused, PASSWORD } from './refused.ts'
import { json } from './run.ts'
import { onSmallDisk } from './small-disk.ts'

/** Its dataset is applied and served: whatever is wrong below, a reader goes on reading it. */
let project: Project
/** The same, with nothing applied and nothing built yet. */
let bare: Project
let reader: Reader
beforeAll(async () => {
  ;[project, bare] = await Promise.all([testProject(), testProject()])
  await project.database.pool.query('create view public.some as select * from public.products')
  await withWorker(project, async () => {
    expect((await project.run(['apply', '--yes'])).code).toBe(0)
    expect((await project.run(['refresh', project.dataset])).code).toBe(0)
  })
  reader = await open(`file:${project.folder}/versions`, project.dataset, { reportMs: 0 })
})
afterAll(() => reader?.close())

async function withWorker(
  { start, folder }: Project,
  work: () => Promise<void>,
  workDir = `${folder}/work`,
): Promise<void> {
  const worker = start(['worker', '--work-dir', workDir])
  try {
    await work()
  } finally {
    worker.kill('SIGTERM')
    await worker.ended
  }
}

/** Exit code not 0, one clear message, nothing changed: neither what was applied and built, nor what readers get. */
const refused = (args: string[], code: string, exit: number, expected: RegExp, of = project) =>
  expectRefused({ ...project, run: of.run }, args, { code, exit, expected }, async () => ({
    version: reader.version?.tag,
    value: await reader.get('products', 1),
  }))

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
    ['status', 'constructor'],
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
    expect(ran.stderr).toMatch(/^snapflip: UNKNOWN_DATASET: Expected a dataset of .*\(shop\w+\), found "\w+"\.\n$/)
    expect(ran.stderr).toContain(`found "${args[1]}".`)
  })

  test('a version to read, when none was built yet', () =>
    refused(['get', bare.dataset, 'products', '1'], 'NO_ACTIVE_VERSION', 3, /snapflip refresh shop/, bare))

  test('an unknown index', async () => {
    for (const verb of ['get', 'explain'])
      await refused([verb, project.dataset, 'toString', '1'], 'UNKNOWN_INDEX', 3, /products.*found "?toString/)
  })

  test('an unknown verb, an unknown flag, an argument too many or too few', async () => {
    await refused(['refrsh'], 'USAGE', 2, /Unknown command 'refrsh'.*snapflip --help/)
    await refused(['help', 'refrsh'], 'USAGE', 2, /Unknown command 'refrsh'\. See `snapflip --help`\.\n?$/)
    await refused(['history', project.dataset, '--limit', 'x'], 'USAGE', 2, /from 1 on\. See `snapflip history --help`/)
    await refused(
      ['refresh', project.dataset, '--outside-window'],
      'USAGE',
      2,
      /Expected --reason with --outside-window/,
    )
    await refused(['refresh', project.dataset, '--ful'], 'USAGE', 2, /Unknown option '--ful'.*refresh --help/)
    await refused(
      ['refresh', project.dataset, 'more'],
      'USAGE',
      2,
      /[Tt]oo many arguments.*, more\. See `snapflip refresh --help`/,
    )
    await refused(['rollback', project.dataset], 'USAGE', 2, /--reason.*rollback --help/)
    await refused(['show', project.dataset], 'USAGE', 2, /tag.*show --help/)
    await refused(['worker', '--metrics', '99999'], 'USAGE', 2, /a port, or host:port.*found "99999"/)
  })

  test.each(['v1', 'v20200101-01'])('a version tagged %s', async (tag) => {
    for (const verb of [
      ['show', tag],
      ['rollback', '--to', tag, '--reason', 'x'],
      ['diff', tag, tag],
      ['verify', tag],
      ['get', 'products', '1', '--version', tag],
    ])
      await refused(verb.toSpliced(1, 0, project.dataset), 'UNKNOWN_VERSION', 3, new RegExp(`found "${tag}"`))
    await refused(['show', bare.dataset, tag], 'UNKNOWN_VERSION', 3, /there is none yet.*found "v/, bare)
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
    refused(['hold', bare.dataset, '--reason', 'x'], 'NOT_APPLIED', 5, /snapflip apply/, bare))
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
    const empty = await testProject({ migrated: false })
    await empty.define(withIndexes({ products: { ...products, from: 'public.nope' } }))
    const ran = await empty.run(['apply', '--yes'])
    expect(ran).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/DEFINITION_INVALID: .*public\.nope, found none/),
    })
    const { rowCount } = await empty.database.pool.query("select from pg_namespace where nspname = 'snapflip'")
    expect(rowCount).toBe(0)
  })

  test('an index without a key', async () => {
    await project.define(withIndexes({ products: { from: 'public.products', value: ['sku'] } }))
    await refused(['apply', '--yes'], 'CONFIG_INVALID', 2, /indexes\.products\.key: expected a text or a list/)
  })
})

describe('a policy that cannot be', () => {
  test.each<[what: string, parts: Record<string, unknown>, expected: RegExp]>([
    [
      'a schedule that never fires',
      { schedule: { cron: '0 0 30 2 *' } },
      /schedule\.cron: expected a time that comes, this one never does, found "0 0 30 2 \*"/,
    ],
    ['a role that there is not', { roles: { boss: ['ana'] } }, /roles: expected no other keys .*, found "boss"/],
    [
      'a negative limit',
      { gates: { changeVolume: { deleted: { percent: -1 } } } },
      /changeVolume\.deleted\.percent: expected at least 0, found -1/,
    ],
  ])('%s', async (_what, parts, expected) => {
    await project.define((definition) => {
      Object.assign(definition.datasets[project.dataset] ?? {}, parts)
      return definition
    })
    await refused(['apply', '--yes'], 'CONFIG_INVALID', 2, expected)
  })

  test('a waiver without a reason, that is over already, or of a gate that refused nothing', async () => {
    await project.define((definition) => definition)
    const tag = reader.version?.tag ?? ''
    const waive = ['waive', project.dataset, tag, 'drift', '--until', '2099-01-01']
    await refused(waive, 'USAGE', 2, /--reason <text>.*waive --help/)
    await refused([...waive, '--reason', ' '], 'USAGE', 2, /--reason/)
    const none = new RegExp(`Expected a gate that refused ${tag} of \\w+ \\(none did\\), found "drift"`)
    await refused([...waive, '--reason', 'why not'], 'USAGE', 2, none)
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
    const empty = await testProject({ migrated: false })
    const ran = await empty.run(['versions', empty.dataset])
    expect(ran.code).toBe(5)
    expect(ran.stderr).toMatch(/REGISTRY_NOT_MIGRATED: .*0001_registry.*Run `snapflip migrate`/)
    expect((await empty.run(['worker'])).stderr).toMatch(/REGISTRY_NOT_MIGRATED/)
  })
})

describe('PostgreSQL that snapflip does not work with', () => {
  const verbs = () => [
    ['apply', '--yes'],
    ['plan'],
    ['migrate'],
    ['worker'],
    ['versions', project.dataset],
    ['hold', project.dataset, '--reason', 'x'],
    ['verify', project.dataset, '--rebuild'],
  ]

  test('a standby: its snapshots hide open transactions', async () => {
    const { primary, standby, stop } = await startStandby()
    try {
      await using({ database: standby.url })
      const expected = /Expected a primary, found a standby.*Point `database` at the primary/
      for (const args of verbs()) await refused(args, 'POSTGRES_UNSUPPORTED', 5, expected)
      const doctor = await project.run(['doctor'])
      expect(doctor).toMatchObject({ code: 5, stdout: expect.stringMatching(/NOT OK +postgres[\s\S]*found a standby/) })
      const getting = ['get', project.dataset, 'products', '1']
      expect(await project.run(getting)).toMatchObject({ code: 0, stdout: expect.stringContaining('sku1') })
      // What it stands by is one that snapflip works with.
      await using({ database: primary.url })
      expect(await project.run(['plan'])).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('public.products, found none'),
      })
    } finally {
      await stop()
    }
  })

  test('older than 15', async () => {
    const old = await startRefusedPostgres()
    try {
      await using({ database: old.url })
      const expected = /Expected PostgreSQL 15 or newer, found 14\.\d+\. Use a newer server/
      for (const args of verbs()) await refused(args, 'POSTGRES_UNSUPPORTED', 5, expected)
    } finally {
      await old.stop()
    }
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
      datasets: [{ dataset: project.dataset, registry: { applied: true } }],
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

  test.each([
    ['If-None-Match: *', 'if-none-match'],
    ['If-Match', 'if-match'],
  ])('in a bucket that ignores %s', async (shown, header) => {
    const { endpoint, region, bucket, prefix } = await testBucket()
    const client = new S3Client({ endpoint, region, forcePathStyle: true })
    // In front of the real one, it writes what has a condition as if it had none.
    const proxy = await startHttpProxy(endpoint, async (exchange, forward) => {
      if (exchange.method !== 'PUT' || exchange.headers[header] === undefined) return forward()
      const Key = decodeURIComponent(new URL(exchange.path, endpoint).pathname.slice(bucket.length + 2))
      const { ETag } = await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: exchange.body }))
      return { status: 200, headers: { etag: ETag }, body: Buffer.alloc(0) }
    })
    try {
      const query = new URLSearchParams({ region, endpoint: proxy.endpoint, forcePathStyle: 'true' })
      await using({ stores: { main: `s3://${bucket}/${prefix}?${query}` } })
      const expected = new RegExp(
        `although its ${shown.replace('*', '\\*')} did not hold, expected 412. Use a service that honours conditional writes`,
      )
      await apply('STORE_UNSUITABLE', 5, expected)
      await refused(['plan'], 'STORE_UNSUITABLE', 5, expected)
      const { KeyCount } = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }))
      expect(KeyCount).toBe(0)
    } finally {
      await proxy.stop()
      client.destroy()
    }
  })

  test('in a folder that cannot be written', async () => {
    const file = join(await mkdtemp(join(tmpdir(), 'snapflip-file-')), 'file')
    await writeFile(file, '')
    await using({ stores: { main: `file:${file}/versions` } })
    await apply('STORE_UNSUITABLE', 5, /file/)
    await rm(join(file, '..'), { recursive: true })
  })
})

describe('a disk that is full', () => {
  test('under a folder store is found before anything is changed', () =>
    onSmallDisk('64k', async (disk) => {
      await using({ stores: { main: `file:${disk}/versions` } })
      await refused(['apply', '--yes'], 'STORE_FULL', 5, /Expected room for about \d+ bytes/)
    }))

  /** A served dataset, then a refresh for which there is no room. */
  const outgrown = async (own: Project, store: string, workDir: string, ...options: string[]) => {
    const generations = () => readdir(join(store, own.dataset, 'packs'))
    await withWorker(
      own,
      async () => {
        expect((await own.run(['apply', '--yes'])).code).toBe(0)
        const first = json<{ tag: string }>(await own.run(['refresh', own.dataset, '--json']))
        await own.database.pool.query(
          `insert into products select i, (select string_agg(md5(i::text || j), '') from generate_series(1, 30) j), 'wide', 1, 'wide'
             from generate_series(10001, 15000) i`,
        )
        const before = await generations()
        const ran = await own.run(['refresh', own.dataset, ...options])
        expect(ran).toMatchObject({ code: 5, stderr: expect.stringMatching(/^snapflip: STORE_FULL: .*[Ff]ree/m) })
        expect(ran.stderr.match(/^snapflip: /gm)).toHaveLength(1)
        expectDiscreet(ran)
        const read = json(await own.run(['get', own.dataset, 'products', '1', '--json']))
        expect(read).toMatchObject({ found: true, version: first.tag })
        const verified = json(await own.run(['verify', own.dataset, '--json']))
        expect(verified).toMatchObject({ version: first.tag, sound: true })
        // What was written of the version that did not come about is gone.
        expect(await generations()).toEqual(before)
      },
      workDir,
    )
  }

  test('under a folder store in the middle of a build: nothing is flipped, readers stay', () =>
    onSmallDisk('2m', async (disk) => {
      const own = await testProject({ store: `file:${disk}/versions` })
      await outgrown(own, join(disk, 'versions'), `${own.folder}/work`)
    }))

  test('under the temporary files of a build: nothing is flipped, readers stay', () =>
    onSmallDisk('2m', async (disk) => {
      const own = await testProject()
      // Read in ranges, which are kept for a retry: a build of changes this small would stay in memory.
      await outgrown(own, `${own.folder}/versions`, join(disk, 'work'), '--full')
    }))
})

test('--verbose prints the stack, without credentials', async () => {
  await using({ database: `postgres://u:${PASSWORD}@127.0.0.1:${await freePort()}/shop` })
  const ran = await project.run(['migrate', '--verbose'])
  expect(ran.stderr).toMatch(/^\s+at /m)
  expect(ran.stderr).not.toContain(PASSWORD)
})

test('duplicate keys: the version is refused with its evidence, readers stay where they are', async () => {
  const own = await testProject()
  await withWorker(own, async () => {
    expect((await own.run(['apply', '--yes'])).code).toBe(0)
    expect((await own.run(['refresh', own.dataset])).code).toBe(0)
    await own.define(withIndexes({ products: { ...INDEXES.products, key: 'category' } }))
    expect((await own.run(['apply', '--yes'])).code).toBe(0)
  })
  await withWorker(own, async () => {
    const ran = await own.run(['refresh', own.dataset, '--json'])
    expect(ran.code).toBe(11)
    const outcome = json<{ tag: string }>(ran)
    expect(outcome).toMatchObject({ code: 'REJECTED', status: 'REJECTED', active: expect.stringMatching(/-01$/) })
    expect((await own.run(['show', own.dataset, outcome.tag])).stdout).toMatch(/reject +uniqueness +products/)
    const read = json(await own.run(['get', own.dataset, 'products', '1', '--json']))
    expect(read).toMatchObject({ version: expect.stringMatching(/-01$/), value: { sku: 'sku1' } })
  })
})
