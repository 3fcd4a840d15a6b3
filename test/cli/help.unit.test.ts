import { readdir } from 'node:fs/promises'
import { Command } from 'commander'
import { describe, expect, it, test } from 'vitest'
import { moment } from '../../src/cli/moment.ts'
import { commandLine } from '../../src/cli/program.ts'
import { formatTime } from '../../src/cli/table.ts'
import { VERBS } from '../../src/cli/verbs.ts'
import { wordsOf } from '../house/quoted-commands.ts'
import { json, snapflip } from './run.ts'

const program = new Command()
for (const declare of VERBS) declare(program)
const names = program.commands.map((command) => command.name())

test('every verb is there, in a file of its name', async () => {
  const wanted =
    'init plan apply policy detach worker up refresh cancel approve reject schedule rollback flip drill hold resume quarantine release waive pin status versions show get explain diff verify history served-at incident migrate doctor'
  expect(names).toEqual(wanted.split(' '))
  const files = await readdir(new URL('../../src/cli/', import.meta.url))
  for (const name of names) expect(files).toContain(`${name}.ts`)
})

/** With those below a verb. */
const commands = program.commands.flatMap((command) => [command, ...command.commands])
const line = (command: Command): string =>
  command.parent === program ? command.name() : `${command.parent?.name()} ${command.name()}`

describe.each(commands.map((command) => [line(command), command] as const))('`snapflip %s --help`', (name, command) => {
  let help = ''
  command.configureOutput({ writeOut: (text) => (help += text) }).outputHelp()

  it('says what it does, how it may end, and the common options', () => {
    expect(command.description()).toMatch(/^\w.{10}/)
    for (const option of ['--config', '--json', '--verbose']) expect(help).toContain(option)
    expect(help).toMatch(/\nExit codes: 0 done, 2 USAGE[,;]/)
  })

  it('has examples, which parse', () => {
    const examples = [...help.matchAll(/^ {2}\$ (.*?) +# /gm)].map(([, example = '']) => example)
    expect(examples).not.toEqual([])
    for (const example of examples) {
      expect(`${example} `).toContain(`snapflip ${name} `)
      expect(parsed(wordsOf(example).slice(1))).toBeNull()
    }
  })

  if (command.options.some(({ long }) => long === '--reason')) {
    it('says what it refuses, or what else happens', () => {
      expect(help).toMatch(/display help for command\n\n[A-Z].{40}[\s\S]*\n\nExamples?:/)
    })

    it('takes no reason that says nothing', () => {
      const args = command.registeredArguments.filter(({ required }) => required).map(() => 'x')
      const said = parsed([...name.split(' '), ...args, ...(OTHERWISE[name] ?? []), '--reason', ' '])
      expect(said).toMatch(/--reason.*Expected some words that say why/)
    })
  }
})

/** Options that are wanted besides. */
const OTHERWISE: Record<string, string[]> = { waive: ['--until', '2099-01-01'] }

/** What is said against a command line; nothing is run. */
function parsed(words: string[]): string | null {
  const whole = commandLine()
  for (const command of whole.commands.flatMap((each) => [each, ...each.commands]))
    command
      .exitOverride()
      .configureOutput({ writeErr: () => undefined })
      .action(() => undefined)
  try {
    whole.parse(words, { from: 'user' })
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

test('a time on the command line is a day, or has its zone, or is now', () => {
  expect(moment('2026-05-18').toISOString()).toBe('2026-05-18T00:00:00.000Z')
  expect(moment('2026-05-18T09:30+02:00').toISOString()).toBe('2026-05-18T07:30:00.000Z')
  expect(moment(formatTime('2026-05-18T09:30:00Z') as string).toISOString()).toBe('2026-05-18T09:30:00.000Z')
  const before = Date.now()
  const now = moment('now').getTime()
  expect(now >= before && now <= Date.now()).toBe(true)
  for (const text of ['5', 'NOW', 'now Z', '2026-05-18T09:30', '2026-05-18 09:30', '2026-02-30', 'May 2026'])
    expect(() => moment(text)).toThrow(/Expected a time such as .*with its zone/)
})

test('help and version go to stdout with exit code 0', async () => {
  const [help, version] = await Promise.all([snapflip(['refresh', '--help']), snapflip(['--version'])])
  expect(help).toMatchObject({ code: 0, stderr: '' })
  expect(help.stdout).toContain('Usage: snapflip refresh')
  expect(version.code).toBe(0)
  expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})

test.each([
  [['refrsh', 'shop'], /Did you mean refresh\?/],
  [['refresh', 'shop', '--ful'], /Unknown option '--ful'.*Did you mean --full\?.*snapflip refresh --help/],
  [['refresh'], /Missing required argument 'dataset'/],
  [['rollback', 'shop'], /Required option '--reason <text>' not specified/],
  [['status', 'a', 'b'], /Too many arguments/],
  [['history', 'shop', '--limit', 'x'], /Expected a whole number/],
  [['history', 'shop', '--since', '5'], /Expected a time such as/],
  [['history', 'shop', '--kind', 'fli'], /Expected a kind .*: definition, capture, .*flip/],
  [[], /Expected a verb/],
])('a wrong command line (%j) is told in one line, with exit code 2', async (args, expected) => {
  const plain = await snapflip(args)
  expect(plain.code).toBe(2)
  expect(plain.stdout).toBe('')
  expect(plain.stderr).toMatch(expected)
  expect(plain.stderr).toMatch(/^snapflip: USAGE: /m)
  expect(plain.stderr).not.toMatch(/^\s+at /m)
  const document = await snapflip([...args, '--json'])
  expect(document.code).toBe(2)
  expect(json(document)).toMatchObject({ code: 'USAGE', message: expect.stringMatching(expected), details: {} })
})
