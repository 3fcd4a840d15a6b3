import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { VIEWER_READS } from '../../src/registry/grants.ts'
import { root } from './quoted-commands.ts'

/** The views are what reports are promised; a statement that reads one has the name from before the table was renamed. */
test('statements name the tables, and leave the views to reports', async () => {
  const view = new RegExp(`snapflip\\.(${VIEWER_READS.join('|')})\\b`, 'g')
  expect('select from snapflip.flips where'.match(view)).toEqual(['snapflip.flips'])
  const found: string[] = []
  for await (const file of glob('{src,activities,workflows,bench}/**/*.ts', { cwd: root })) {
    for (const [name] of (await readFile(join(root, file), 'utf8')).matchAll(view)) found.push(`${file}: ${name}`)
  }
  expect(found).toEqual([])
})
