import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from './quoted-commands.ts'

/** What the package exports, by the file that declares it. */
async function exportedBy(entry: string): Promise<Array<readonly [name: string, file: string]>> {
  const text = await readFile(join(root, entry), 'utf8')
  const again = [...text.matchAll(/^export (?:type )?\{ ([^}]+) \} from '([^']+)'/gm)].flatMap(
    ([, names = '', from = '']) =>
      names.split(',').map(
        (name) =>
          [
            name
              .trim()
              .replace(/^type /, '')
              .replace(/ as .*/, ''),
            join(dirname(entry), from),
          ] as const,
      ),
  )
  const own = [...text.matchAll(/^export (?:function|interface|type|const|class) (\w+)/gm)]
  return [...again, ...own.map(([, name = '']) => [name, entry] as const)]
}

const exported = [...(await exportedBy('src/index.ts')), ...(await exportedBy('src/config.ts'))]

test.each(exported)('%s, which users import, says in %s what it is', async (name, file) => {
  const lines = (await readFile(join(root, file), 'utf8')).split('\n')
  const at = lines.findIndex((line) =>
    new RegExp(`^export (?:async )?(?:function|interface|type|const|class) ${name}\\b`).test(line),
  )
  expect(at, 'its declaration').toBeGreaterThan(0)
  expect(lines[at - 1]?.trimEnd()).toMatch(/\*\/$/)
})

test('all that the package exports is looked at', () => {
  expect(exported.length).toBeGreaterThan(20)
})
