import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { datasetOf } from '../../activities/deps.ts'
import { configSchema } from '../../schemas/config.ts'
import { configJsonSchema } from '../../scripts/config-schema.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { loadConfig } from '../../src/load-config.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'snapflip-config-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const PLAIN = {
  database: 'postgres://localhost/shop',
  stores: { hot: 'redis://localhost:6379/0' },
  datasets: {
    shop: { stores: ['hot'], indexes: { products: { from: 'public.products', key: 'id', value: ['name'] } } },
  },
}

/** The dataset with other parts. */
const shop = (parts: object) => ({ ...PLAIN, datasets: { shop: { ...PLAIN.datasets.shop, ...parts } } })

async function written(name: string, text: string): Promise<string> {
  const file = join(folder, name)
  await writeFile(file, text)
  return file
}

/** The error that loading gives. */
async function refusal(name: string, text: string): Promise<SnapflipError> {
  const file = await written(name, text)
  const error = await loadConfig(file).then(
    () => null,
    (found: unknown) => found,
  )
  expect(error).toBeInstanceOf(SnapflipError)
  return error as SnapflipError
}

/** As it is written in JSON. */
const variable = (name: string) => ['$', '{', name, '}'].join('')

const refusalOf = (definition: unknown) => refusal('refused.json', JSON.stringify(definition))

describe('a definition is loaded', () => {
  const typed = `import { defineConfig } from 'snapflip/config'
    const port: number = 6379
    export default defineConfig({ ...${JSON.stringify(PLAIN)}, stores: { hot: \`redis://localhost:\${port}/0\` } })`

  test.each([
    ['a.ts', typed],
    ['a.js', `export default ${JSON.stringify(PLAIN)}`],
    ['a.json', JSON.stringify({ $schema: 'x', ...PLAIN })],
  ])('from %s', async (name, text) => {
    const { config } = await loadConfig(await written(name, text))
    expect(config.stores).toEqual(PLAIN.stores)
    expect(config.datasets.shop?.indexes.products).toMatchObject({ from: 'public.products', capture: 'triggers' })
    expect(config.temporal.address).toBe('localhost:7233')
  })

  test('from the nearest folder upwards', async () => {
    const below = join(folder, 'project', 'deep', 'below')
    await mkdir(below, { recursive: true })
    await writeFile(join(folder, 'project', 'snapflip.config.json'), JSON.stringify(PLAIN))
    expect((await loadConfig(undefined, below)).file).toBe(join(folder, 'project', 'snapflip.config.json'))
  })

  test('with relative folders meant from its own', async () => {
    const text = JSON.stringify({ ...PLAIN, stores: { hot: 'file:./versions' } })
    const { config } = await loadConfig(await written('folder.json', text))
    expect(config.stores.hot).toBe(`file://${join(folder, 'versions')}`)
  })

  test('with variables of the environment in JSON', async () => {
    process.env.SNAPFLIP_TEST_HOST = 'elsewhere'
    const text = JSON.stringify({ ...PLAIN, stores: { hot: `redis://${variable('SNAPFLIP_TEST_HOST')}:6379/0` } })
    expect((await loadConfig(await written('env.json', text))).config.stores.hot).toBe('redis://elsewhere:6379/0')
  })
})

test('a dataset by a name that every object has is not there', () =>
  expect(() => datasetOf(configSchema.parse(PLAIN), 'constructor')).toThrow(/no dataset "constructor"/))

describe('a definition that cannot be used is refused', () => {
  test.each<[what: string, definition: unknown, expected: RegExp]>([
    ['no object', [], /the definition: expected an object, found an empty list/],
    ['no database', { ...PLAIN, database: undefined }, /database: expected a text or an object, found nothing/],
    ['an unknown key', { ...PLAIN, databse: 'x' }, /expected no other keys than snapflip knows, found "databse"/],
    [
      'a store that is not there',
      { ...PLAIN, datasets: { shop: { ...PLAIN.datasets.shop, stores: ['cold'] } } },
      /datasets\.shop\.stores\[0\]: expected a name of `stores` \(hot\), found "cold"/,
    ],
    [
      'an index without a key',
      { ...PLAIN, datasets: { shop: { stores: ['hot'], indexes: { a: { from: 't', value: ['x'] } } } } },
      /datasets\.shop\.indexes\.a\.key: expected a text or a list, found nothing/,
    ],
    [
      'an option of another kind',
      { ...PLAIN, datasets: { shop: { ...PLAIN.datasets.shop, keep: 1 } } },
      /datasets\.shop\.keep: expected at least 2, found 1/,
    ],
    [
      'an events index with more',
      { ...PLAIN, datasets: { shop: { stores: ['hot'], indexes: { a: { events: true, key: 'x' } } } } },
      /datasets\.shop\.indexes\.a: expected no other keys than snapflip knows, found "key"/,
    ],
    [
      'a canary of negative limits, or for one reader',
      {
        ...PLAIN,
        datasets: {
          shop: { ...PLAIN.datasets.shop, canary: { maxWorse: { misses: -1 }, minimumReaders: 1 } },
        },
      },
      /canary\.minimumReaders: expected at least 2, found 1[\s\S]*canary\.maxWorse\.misses: expected at least 0, found -1/,
    ],
    [
      'a canary that shrinks',
      { ...PLAIN, datasets: { shop: { ...PLAIN.datasets.shop, canary: { share: 0.5, ramp: [0.2] } } } },
      /datasets\.shop\.canary: expected a `ramp` of growing shares, above `share`/,
    ],
    [
      'a canary that outlasts the evidence',
      { ...PLAIN, datasets: { shop: { ...PLAIN.datasets.shop, canary: { forMs: 3_600_000 } } } },
      /datasets\.shop\.canary\.forMs: expected less than `evidenceMaxAgeMs`/,
    ],
    [
      'a role that there is not',
      shop({ roles: { boss: ['ana'] } }),
      /datasets\.shop\.roles: expected no other keys than snapflip knows, found "boss"/,
    ],
    [
      'a verb that needs a role that there is not',
      shop({ may: { rollback: 'boss' } }),
      /datasets\.shop\.may\.rollback: expected "viewer" or .*, found "boss"/,
    ],
    ['a schedule of no kind', shop({ schedule: { cron: 'daily' } }), /schedule\.cron: expected 5 fields/],
    [
      'a schedule at no time of day',
      shop({ schedule: { cron: '61 * * * *' } }),
      /schedule\.cron: expected minute hour day/,
    ],
    [
      'a schedule that never fires',
      shop({ schedule: { cron: '0 0 30 2 *' } }),
      /schedule\.cron: expected a time that comes, this one never does/,
    ],
    [
      'a schedule in no time zone',
      shop({ schedule: { cron: '0 2 * * *', timezone: 'Europe/Atlantis' } }),
      /schedule\.timezone: expected a time zone/,
    ],
    [
      'a schedule of two kinds',
      shop({ schedule: { cron: '0 2 * * *', everyMs: 60_000 } }),
      /schedule: expected either `cron` or `everyMs` or `continuous`/,
    ],
    ['a schedule of less than no time', shop({ schedule: { everyMs: -5 } }), /schedule\.everyMs/],
    [
      'windows that never open',
      shop({ windows: { open: [{ from: '08:00', to: '18:00' }], blackout: [{ from: '00:00', to: '00:00' }] } }),
      /datasets\.shop\.windows: expected windows that open, these never do/,
    ],
    [
      'windows of no time, and a close of no kind',
      shop({ windows: { open: [{ from: '8', to: '18:00' }], onClose: 'stop' } }),
      /windows\.open\[0\]\.from: expected a time of day[\s\S]*windows\.onClose: expected "finish" or "keepCandidate", found "stop"/,
    ],
    [
      'negative limits',
      shop({
        ttl: { budgetMs: -1, beyond: 'mark' },
        retries: { attempts: 0, initialMs: -1 },
        schedule: { continuous: { atMostEveryMs: -1 } },
      }),
      /continuous\.atMostEveryMs: expected at least 100, found -1[\s\S]*retries\.attempts: expected at least 1, found 0[\s\S]*ttl\.budgetMs: expected at least 0, found -1/,
    ],
    [
      'retries of codes and sinks that are not there',
      shop({ retries: { attempts: 3, codes: ['NOPE'], tell: ['nobody'] } }),
      /retries\.codes\[0\]: expected a code of runbooks\/errors\.md, found "NOPE"[\s\S]*retries\.tell\[0\]: expected a name of `alerts\.sinks` \(none\), found "nobody"/,
    ],
    [
      'names that every object has',
      {
        ...PLAIN,
        stores: { hot: PLAIN.stores.hot, constructor: 'file:x' },
      },
      /stores\.constructor: expected a name that not every/,
    ],
    [
      'codes and sinks by names that every object has',
      shop({ retries: { attempts: 3, codes: ['toString'], tell: ['valueOf'] } }),
      /retries\.codes\[0\]: [^\n]*found "toString"[\s\S]*retries\.tell\[0\]: [^\n]*found "valueOf"/,
    ],
    [
      'an age for what is captured',
      shop({ indexes: { a: { from: 't', key: 'k', value: 'v', rebuildAfterMs: 1_000 } } }),
      /indexes\.a\.rebuildAfterMs: expected only with capture: 'none'/,
    ],
    [
      'continuous mode of a source that nothing is known of',
      shop({ schedule: { continuous: {} }, indexes: { a: { from: 't', key: 'k', value: 'v', capture: 'none' } } }),
      /indexes\.a\.rebuildAfterMs: expected with capture: 'none' in continuous mode, found nothing/,
    ],
    [
      'an order without many',
      {
        ...PLAIN,
        datasets: { shop: { stores: ['hot'], indexes: { a: { from: 't', key: 'k', value: 'v', order: 'o' } } } },
      },
      /datasets\.shop\.indexes\.a\.order: expected only with many: true/,
    ],
    [
      'a name that is none',
      { ...PLAIN, datasets: { 'a b': PLAIN.datasets.shop } },
      /datasets\.a b: expected a name of letters/,
    ],
  ])('%s', async (_what, definition, expected) => {
    const error = await refusalOf(definition)
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toMatch(expected)
  })

  test.each([
    ['a store that is named twice', { hot: 'redis://h/0' }, ['hot', 'hot']],
    ['a store that is named under two names', { hot: 'redis://h/0', warm: 'redis://h/0' }, ['hot', 'warm']],
  ])('%s', async (_what, stores, names) => {
    const error = await refusalOf({ ...PLAIN, stores, datasets: { shop: { ...PLAIN.datasets.shop, stores: names } } })
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toMatch(/datasets.shop.stores: expected every store once/)
  })

  test('what to do when publishing fails, where there is one store', async () => {
    const error = await refusalOf({
      ...PLAIN,
      datasets: { shop: { ...PLAIN.datasets.shop, publish: { onFailure: 'rollback' } } },
    })
    expect(error.message).toMatch(/publish: expected only where several stores are named, found one/)
  })

  test.each([
    ['mysql://u:sekret@localhost/shop', 'expected a URL postgres://…, found one of the scheme mysql:'],
    ['localhost', 'expected a URL postgres://…, found no URL'],
    ['postgres://u:sekret@localhost/shop?sslmode=banana', 'sslmode: expected disable, …, found "banana"'],
  ])('a database that is none: %s', async (database, expected) => {
    const error = await refusal('database.json', JSON.stringify({ ...PLAIN, database }))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toMatch(new RegExp(`database: ${expected.replace('…', '.*')}`))
    expect(error.message).not.toContain('sekret')
    const withTls = { connectionString: 'postgres://localhost/shop?sslmode=verify-full', ssl: true }
    await loadConfig(await written('database.json', JSON.stringify({ ...PLAIN, database: withTls })))
  })

  test('naming the environment variables that have no value', async () => {
    const definition = `export default { ...${JSON.stringify(PLAIN)}, database: process.env.SNAPFLIP_TEST_UNSET }`
    expect((await refusal('unset.ts', definition)).message).toContain('expected SNAPFLIP_TEST_UNSET to be set')
    const within = `export default { ...${JSON.stringify(PLAIN)}, stores: { hot: \`redis://\${process.env.SNAPFLIP_TEST_UNSET}/0\` } }`
    expect((await refusal('within.ts', within)).message).toContain('expected SNAPFLIP_TEST_UNSET to be set')
    const inJson = JSON.stringify({ ...PLAIN, database: variable('SNAPFLIP_TEST_UNSET') })
    expect((await refusal('unset.json', inJson)).message).toContain('expected SNAPFLIP_TEST_UNSET to be set')
  })

  test('without a word of what may be a credential', async () => {
    const error = await refusalOf({
      ...PLAIN,
      stores: { 'bad name': 'redis://:sekret@h/0' },
      temporal: { tls: 'sekret' },
    })
    expect(error.message).toMatch(/stores\.bad name/)
    expect(JSON.stringify([error.message, error.details])).not.toContain('sekret')
  })

  test('when it is not there, not JSON, or does not run', async () => {
    await expect(loadConfig(join(folder, 'none.ts'))).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    expect((await refusal('bad.json', '{')).message).toMatch(/Expected JSON in .*bad\.json/)
    expect((await refusal('bad.ts', 'export default {')).message).toMatch(/bad\.ts cannot be loaded: .*Unexpected/)
    expect((await refusal('throws.ts', 'throw new Error("not today")')).message).toContain('not today')
    expect((await refusal('empty.ts', 'export const a = 1')).message).toMatch(/default export/)
  })
})

describe('schemas/config.schema.json', () => {
  test('is what the zod schema gives (node scripts/config-schema.ts makes it)', async () => {
    const file = new URL('../../schemas/config.schema.json', import.meta.url)
    expect(await readFile(file, 'utf8')).toBe(configJsonSchema())
  })

  test('accepts what is accepted, and refuses what is refused', () => {
    const validate = new Ajv2020({ strict: false }).compile(JSON.parse(configJsonSchema()))
    expect(validate(PLAIN)).toBe(true)
    expect(validate({ ...PLAIN, databse: 'x' })).toBe(false)
    expect(validate({ ...PLAIN, datasets: { shop: { stores: [], indexes: {} } } })).toBe(false)
  })
})
