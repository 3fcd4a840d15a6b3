import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command, CommanderError } from 'commander'
import { describe, expect, it, test } from 'vitest'
import { VERBS } from '../../src/cli/verbs.ts'
import { RUNBOOKS } from '../../src/observe/alert.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const pages = [
  'README.md',
  ...(await readdir(join(root, 'docs'))).map((name) => `docs/${name}`),
  ...(await readdir(join(root, 'runbooks'), { recursive: true })).map((name) => `runbooks/${name}`),
].filter((name) => name.endsWith('.md'))

/** A command line quoted on a page. One in a block is run as it stands; one in a sentence may leave out what the sentence is not about. */
interface Quoted {
  page: string
  line: string
  whole: boolean
}

const quoted: Quoted[] = []
for (const page of pages) {
  const text = await readFile(join(root, page), 'utf8')
  for (const [, block = ''] of text.matchAll(/^[ \t]*```[a-z]*\n([\s\S]*?)^[ \t]*```/gm)) {
    for (const [, line = ''] of block.matchAll(/^[ \t]*(?:\$ )?(?:npx )?(snapflip (?!:).*)$/gm))
      quoted.push({ page, line, whole: true })
  }
  const prose = text.replace(/^[ \t]*```[\s\S]*?^[ \t]*```/gm, '')
  for (const [, line = ''] of prose.matchAll(/`(?:npx )?(snapflip [^`]+)`/g)) quoted.push({ page, line, whole: false })
}

/** The words as a shell would give them, without a comment at the end. */
function wordsOf(line: string): string[] {
  const words = [...line.matchAll(/"([^"]*)"|(#.*)|(\S+)/g)].filter(([, , comment]) => comment === undefined)
  return words.map(([, inQuotes, , bare]) => inQuotes ?? bare ?? '').filter((word) => word !== '&')
}

/** What commander says against it; null when it parses. Nothing is run. */
function refusal(line: string, whole: boolean): string | null {
  const program = new Command('snapflip').enablePositionalOptions().exitOverride()
  for (const declare of VERBS) declare(program)
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ writeOut: () => undefined, writeErr: () => undefined })
    if (command !== program) command.action(() => undefined)
  }
  try {
    program.parse(wordsOf(line).slice(1), { from: 'user' })
    return null
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    const leftOut = ['commander.missingArgument', 'commander.missingMandatoryOptionValue']
    return error.exitCode === 0 || (!whole && leftOut.includes(error.code)) ? null : error.message
  }
}

describe('an alert', () => {
  it.each(Object.entries(RUNBOOKS))('%s has its runbook, which names it', async (kind, page) => {
    expect(existsSync(join(root, page)), page).toBe(true)
    expect(await readFile(join(root, page), 'utf8')).toContain(kind)
  })
})

describe.each([...new Set(Object.values(RUNBOOKS))])('%s', (page) => {
  it('begins with the tempting wrong move, then symptom, confirm, act, verify, undo', async () => {
    const text = await readFile(join(root, page), 'utf8')
    const headings = [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)
    expect(headings).toEqual(['Symptom', 'Confirm', 'Act', 'Verify', 'Undo'])
    expect(text.slice(0, text.indexOf('## Symptom'))).toContain('tempting wrong move')
  })
})

test.each(quoted)('$page quotes `$line`, which parses', ({ line, whole }) => {
  expect(refusal(line, whole)).toBeNull()
})

test('a command that is not there, or has another flag, is found', () => {
  expect(quoted.length).toBeGreaterThan(50)
  expect(refusal('snapflip refrsh shop', true)).toMatch(/unknown command/)
  expect(refusal('snapflip refresh shop --ful', false)).toMatch(/unknown option/)
  expect(refusal('snapflip rollback shop', true)).toMatch(/required option/)
  expect(refusal('snapflip rollback', false)).toBeNull()
  expect(wordsOf('snapflip rollback shop --reason "prices # are off" # back')).toEqual([
    'snapflip',
    'rollback',
    'shop',
    '--reason',
    'prices # are off',
  ])
})
