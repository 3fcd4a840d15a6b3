import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from './quoted-commands.ts'

const SENTENCE = /^- (.+)$/
const SHOWN_BY = /^ {2}- `(test\/[^`]+)` › (.+)$/

interface Promised {
  sentence: string
  shownBy: Array<{ file: string; title: string }>
}

/** Lines that are neither a sentence, nor one of its tests, nor a heading or its introduction, are faults of the page. */
function promisesOf(page: string): { promises: Promised[]; faults: string[] } {
  const promises: Promised[] = []
  const faults: string[] = []
  for (const line of page.slice(page.indexOf('\n## ')).split('\n')) {
    const [, sentence] = SENTENCE.exec(line) ?? []
    const [, file, title] = SHOWN_BY.exec(line) ?? []
    if (sentence !== undefined) promises.push({ sentence, shownBy: [] })
    else if (file !== undefined && title !== undefined) promises.at(-1)?.shownBy.push({ file, title })
    else if (line !== '' && !line.startsWith('## ')) faults.push(line)
  }
  return { promises, faults }
}

/** The texts of a file's titles, as they are written between quotes. */
async function titlesIn(file: string): Promise<string[]> {
  const source = await readFile(join(root, file), 'utf8')
  const titles = source.matchAll(/(['"`])((?:\\.|(?!\1)[^\\\n])*)\1/g)
  return [...titles].map(([, , title = '']) => title.replace(/\\(.)/g, '$1'))
}

/** What is there to be run and is not, or is to fail; wherever in the file, as it may stand around others. */
const NOT_RUN = /\b(?:it|test|describe)(?:\.\w+)*\.(?:skip|todo|skipIf|runIf|fails)\b/g
const notRunIn = (source: string) => [...source.matchAll(NOT_RUN)].map(([call]) => call)

const { promises, faults } = promisesOf(await readFile(join(root, 'docs/coverage.md'), 'utf8'))

test('the page holds sentences and their tests, and nothing that is taken for neither', () => {
  expect(faults).toEqual([])
  expect(promises.length).toBeGreaterThan(3)
})

test.each(promises)('"$sentence" is shown by tests that are there', async ({ shownBy }) => {
  expect(shownBy).not.toEqual([])
  for (const { file, title } of shownBy) {
    expect(existsSync(join(root, file)), file).toBe(true)
    const found = (await titlesIn(file)).some((each) => each.startsWith(title))
    expect(found, `${file} has no test whose title begins with "${title}"`).toBe(true)
    expect(notRunIn(await readFile(join(root, file), 'utf8')), file).toEqual([])
  }
})

test('a test that is not there, or is left out, is noticed', async () => {
  expect(promisesOf('\n## A\n- one\n  - `test/a.test.ts` › b\ntwo\n')).toEqual({
    promises: [{ sentence: 'one', shownBy: [{ file: 'test/a.test.ts', title: 'b' }] }],
    faults: ['two'],
  })
  const leave = (how: string) => `  it.${how}('a promise', () => {})`
  const left = ['skip', 'todo', 'concurrent.skip', 'fails', 'skipIf(true)'].map(leave).join('\n')
  expect(notRunIn(left)).toEqual(['it.skip', 'it.todo', 'it.concurrent.skip', 'it.fails', 'it.skipIf'])
  expect(notRunIn(`${leave('each([1])')} and it.only then skips it.`)).toEqual([])
  expect(await titlesIn('test/house/coverage.test.ts')).toContain(
    'a test that is not there, or is left out, is noticed',
  )
})
