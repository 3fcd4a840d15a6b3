import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { configSchema, datasetSchema } from '../../schemas/config.ts'
import { root } from './quoted-commands.ts'

/** For whoever writes a definition. */
const pages = ['README.md', ...(await readdir(join(root, 'docs'))).map((name) => `docs/${name}`)].filter((page) =>
  /^(?!docs\/(coverage|format|benchmarks)\.).*\.md$/.test(page),
)
const texts = await Promise.all(pages.map(async (page) => [page, await readFile(join(root, page), 'utf8')] as const))

interface Schema {
  properties?: Record<string, Schema>
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  items?: Schema
  additionalProperties?: Schema | boolean
}

/** Each option with what it is an option of; null at the top. */
function optionsOf(schema: Schema, of: string | null = null): [of: string | null, name: string][] {
  const below = [schema.anyOf, schema.oneOf, schema.allOf].flatMap((each) => each ?? [])
  const more = typeof schema.additionalProperties === 'object' ? [schema.additionalProperties] : []
  return [
    ...Object.entries(schema.properties ?? {}).flatMap(([name, option]): [string | null, string][] => [
      [of, name],
      ...optionsOf(option, name),
    ]),
    ...[...below, ...more, ...(schema.items === undefined ? [] : [schema.items])].flatMap((each) =>
      optionsOf(each, of),
    ),
  ]
}

/** The names in the code of each section of the pages. */
const sections = texts.flatMap(([, text]) =>
  text.split(/^#+ /m).map((section) => {
    const code = [...section.matchAll(/```[\s\S]*?```|`[^`\n]+`/g)].join('\n')
    return new Set(code.match(/\w+/g))
  }),
)

/** Written for a definition by `apply`, never by a person. */
const NOT_WRITTEN = ['sha256']

test('every option of the definition is told on a page, where that is told which it belongs to', () => {
  const declared = z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' })
  const options = optionsOf(declared as Schema).filter(([, name]) => !NOT_WRITTEN.includes(name))
  expect(options.length).toBeGreaterThan(150)
  const missing = options.filter(
    ([of, name]) => !sections.some((told) => told.has(name) && (of === null || told.has(of))),
  )
  expect([...new Set(missing.map((names) => names.join('.')))]).toEqual([])
})

test.each(texts.flatMap(([page, text]) => blocksOf(text).map((block) => [page, block] as const)))(
  '%s shows options of a dataset that are as declared: %s',
  (_page, block) => {
    const { datasets, shop, stores: _stores, alerts: _alerts, ...parts } = new Function(`return ({${block}})`)()
    for (const dataset of [...Object.values(datasets ?? {}), ...(shop === undefined ? [] : [shop]), parts])
      expect(datasetSchema.partial().safeParse(dataset).error?.issues).toBeUndefined()
  },
)

/** Options alone: not what is imported and run. Each line of a block of schedules is one of several ways. */
function blocksOf(text: string): string[] {
  return [...text.matchAll(/```ts\n([\s\S]*?)```/g)]
    .map(([, block = '']) => block)
    .filter((block) => !/\b(import|await|export|async)\b/.test(block))
    .flatMap((block) => block.split(/\n(?=schedule:)/))
}
