import { readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '../..')
const IMPORT = /(?:^|\n)\s*(?:import|export)\s+(type\s)?[^'"]*?from\s+'([^']+)'|import\('([^']+)'\)/g

/** Every module that a file imports as a value, however indirectly: files below the root, and packages by name. */
async function importGraph(entry: string): Promise<{ files: Set<string>; packages: Set<string> }> {
  const files = new Set<string>()
  const packages = new Set<string>()
  const left = [entry]
  for (let file = left.pop(); file !== undefined; file = left.pop()) {
    if (files.has(file)) continue
    files.add(file)
    const source = await readFile(join(root, file), 'utf8')
    for (const [, isType, specifier = '', dynamic] of source.matchAll(IMPORT)) {
      const target = dynamic ?? specifier
      if (isType !== undefined) continue
      if (target.startsWith('.')) left.push(relative(root, join(root, dirname(file), target)))
      else packages.add(target)
    }
  }
  return { files, packages }
}

test('the package imports what a reader needs, and neither PostgreSQL nor Temporal', async () => {
  const { files, packages } = await importGraph('src/index.ts')
  expect([...files]).toEqual(expect.arrayContaining(['src/reader/open.ts', 'src/stores/redis/store.ts']))
  const folders = new Set([...files].map((file) => file.replace(/^(src\/[^/]+|[^/]+)\/.*$/, '$1')))
  // Of the changelog only `append`, which is given its connection.
  expect([...files].filter((file) => file.startsWith('src/changelog/') && file !== 'src/changelog/append.ts')).toEqual(
    [],
  )
  folders.delete('src/changelog')
  expect([...folders].sort()).toEqual(['schemas', 'src', 'src/core', 'src/reader', 'src/snapshot', 'src/stores'])
  const foreign = [...packages].filter((name) => !name.startsWith('node:'))
  expect(foreign.filter((name) => /^(pg|pg-.*|node-pg-migrate|@temporalio\/.*)$/.test(name))).toEqual([])
})
