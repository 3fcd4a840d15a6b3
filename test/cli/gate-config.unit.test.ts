import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { gatesSchema } from '../../schemas/gates.ts'
import { loadConfig, parseConfig } from '../../src/load-config.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'snapflip-gates-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const withGates = (gates: unknown) => ({
  database: 'postgres://localhost/shop',
  stores: { hot: 'redis://localhost:6379/0' },
  datasets: {
    shop: { stores: ['hot'], indexes: { products: { from: 'products', key: 'id', value: ['name', 'price'] } }, gates },
  },
})
const at = 'datasets.shop.gates'
const hook = { kind: 'webhook', url: 'https://gate.example.com/', secretEnv: 'GATE_SECRET' }

test.each<[gates: unknown, expected: string]>([
  [{ changeVolume: { deleted: { percent: -1 } } }, `${at}.changeVolume.deleted.percent: expected at least 0, found -1`],
  [
    { changeVolume: { deleted: { percent: 1, atLeast: -1 } } },
    `${at}.changeVolume.deleted.atLeast: expected at least 0`,
  ],
  [
    { changeVolume: { bytes: { grown: { percent: -5 } } } },
    `${at}.changeVolume.bytes.grown.percent: expected at least 0`,
  ],
  [{ changeVolume: { calibrate: { minimum: 30 } } }, 'minimum: expected at most `versions` (20), found 30'],
  [{ columns: { products: { price: { nullShare: { max: 2 } } } } }, 'nullShare.max: expected at most 1, found 2'],
  [{ columns: { products: { price: { nullShare: { max: -0.1 } } } } }, 'nullShare.max: expected at least 0'],
  [{ columns: { products: { price: {} } } }, 'price: expected `nullShare`, `distinctShare` or both'],
  [{ columns: { products: { price: { distinctShare: {} } } } }, 'distinctShare: expected `min`, `max` or both'],
  [
    { columns: { products: { price: { distinctShare: { min: 0.5, max: 0.1 } } } } },
    'expected `min` to be at most `max`',
  ],
  [
    { columns: { products: { cost: { nullShare: { max: 1 } } } } },
    'expected a value column (name, price), found "cost"',
  ],
  [
    { columns: { goods: { price: { nullShare: { max: 1 } } } } },
    'expected a name of `indexes` (products), found "goods"',
  ],
  [{ requiredKeys: { goods: { keys: [1] } } }, 'requiredKeys: expected a name of `indexes` (products), found "goods"'],
  [{ requiredKeys: { products: { keys: [] } } }, 'requiredKeys.products.keys: expected a list that is not empty'],
  [{ requiredKeys: { products: { keys: [['1', '2']] } } }, 'products: expected keys of 1 part, found ["1","2"]'],
  [{ valueSchema: { goods: { schema: {} } } }, 'valueSchema: expected a name of `indexes` (products), found "goods"'],
  [
    { valueSchema: { products: { schema: { type: 'objekt' } } } },
    'schema: expected a JSON Schema (draft 2020-12), found',
  ],
  [{ valueSchema: { products: { schema: { requird: [] } } } }, 'unknown keyword: "requird"'],
  [{ valueSchema: { products: { schema: { $ref: 'https://a.example/b' } } } }, "can't resolve reference"],
  [{ user: { a: { kind: 'rest' } } }, `${at}.user.a.kind: expected "sql", "function" or "webhook", found "rest"`],
  [{ user: { a: { kind: 'sql', sql: ' ' } } }, `${at}.user.a.sql: expected a text that is not empty`],
  [{ user: { a: { kind: 'sql', sql: 'select 1', timeoutMs: -1 } } }, `${at}.user.a.timeoutMs: expected at least 0`],
  [{ user: { a: { kind: 'sql', sql: 'select 1', changesMax: 0 } } }, `${at}.user.a.changesMax: expected at least 0`],
  [
    { user: { a: { kind: 'sql', sql: 'select 1', broken: 'pass' } } },
    `${at}.user.a.broken: expected "hold" or "reject"`,
  ],
  [
    { user: { a: { kind: 'function', function: { sha256: 'ab'.repeat(32) } } } },
    'expected a function, which a .ts or .js',
  ],
  [{ user: { a: { ...hook, url: 'http://gate.example.com/' } } }, `${at}.user.a.url: expected an https URL (http only`],
  [{ user: { a: { ...hook, url: 'https://10.0.0.1/' } } }, `${at}.user.a.url: expected a public address`],
  [{ user: { a: { ...hook, secretEnv: undefined } } }, `${at}.user.a.secretEnv: expected a text, found nothing`],
  [{ user: { a: { ...hook, giveUpMs: -1 } } }, `${at}.user.a.giveUpMs: expected at least 0`],
])('%j is refused: %s', (gates, expected) => {
  expect(() => parseConfig(withGates(gates), 'x.json')).toThrow(expected)
})

const zod = pathToFileURL(join(import.meta.dirname, '../../node_modules/zod/index.js')).href
async function loaded(gates: string) {
  const file = join(folder, `${Math.random()}.config.ts`)
  const { datasets, ...rest } = withGates(undefined)
  const text = `import { z } from '${zod}'
    import { defineConfig } from 'snapflip/config'
    const { datasets, ...rest } = ${JSON.stringify({ ...rest, datasets })}
    export default { ...rest, datasets: { shop: { ...datasets.shop, gates: ${gates} } } }`
  await writeFile(file, text)
  return loadConfig(file)
}

test('a zod schema is kept as the JSON Schema of what it takes', async () => {
  const { config } = await loaded(
    `{ valueSchema: { products: { schema: z.object({ name: z.string().min(1), price: z.number().nonnegative().nullable() }) } } }`,
  )
  expect(config.datasets.shop?.gates.valueSchema?.products?.schema).toEqual({
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    properties: {
      name: { type: 'string', minLength: 1 },
      price: { anyOf: [{ type: 'number', minimum: 0 }, { type: 'null' }] },
    },
    required: ['name', 'price'],
  })
})

test.each([
  ['z.object({ name: z.string().refine((name) => name !== "x") })', 'a refinement'],
  ['z.object({ name: z.string().trim() })', 'a change of the value'],
  ['z.object({ at: z.date() })', 'Date cannot be represented'],
  ['z.preprocess((value) => value, z.object({}))', 'a change of the value'],
])('a zod schema that JSON Schema cannot say is refused: %s', async (schema, found) => {
  await expect(loaded(`{ valueSchema: { products: { schema: ${schema} } } }`)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringMatching(
      `valueSchema.products.schema: expected a schema that JSON Schema can say, found: ${found}`,
    ),
  })
})

test('a function stands in the definition as the hash of its text, and is kept beside it', async () => {
  const gate = (text: string) => loaded(`{ user: { brands: { kind: 'function', function: ${text} } } }`)
  const [one, same, other] = [
    await gate('async () => ({ verdict: "pass", summary: "well" })'),
    await gate('async () => ({ verdict: "pass", summary: "well" })'),
    await gate('async () => ({ verdict: "hold", summary: "well" })'),
  ]
  const kept = ({ config }: typeof one) => config.datasets.shop?.gates.user?.brands
  expect(kept(one)).toMatchObject({ kind: 'function', function: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) } })
  expect(kept(same)).toEqual(kept(one))
  expect(kept(other)).not.toEqual(kept(one))
  expect(JSON.parse(JSON.stringify(one.config))).toEqual(one.config)
  expect(await one.functions.get('shop/brands')?.({} as never)).toEqual({ verdict: 'pass', summary: 'well' })
})

const page = await readFile(new URL('../../docs/gates.md', import.meta.url), 'utf8')

test.each([...page.matchAll(/^```ts\ngates: (.*?)\n```$/gms)].map(([, gates]) => gates as string))(
  'example %# of docs/gates.md can be declared',
  async (gates) => {
    const { config } = await loaded(`(${gates.replaceAll('brand:', 'name:')})`)
    expect(Object.keys(config.datasets.shop?.gates ?? {}).length).toBeGreaterThan(0)
  },
)

test('docs/gates.md has every gate, and the defaults that they have', () => {
  const { changeVolume } = gatesSchema.parse({})
  for (const [direction, limit] of Object.entries(changeVolume))
    for (const [name, value] of Object.entries(limit ?? {}))
      expect(page).toMatch(new RegExp(`^    ${direction}: \\{.*${name}: '?${value}'?[ ,]`, 'm'))
  for (const name of [
    'integrity',
    'rowCounts',
    'uniqueness',
    'sourceSchema',
    'drift',
    'changeVolume',
    'requiredKeys',
    'nullShare',
    'distinctShare',
    'valueSchema',
    'user:<name>',
  ])
    expect(page).toMatch(new RegExp(`^\\| .*\`${name}\``, 'm'))
})
