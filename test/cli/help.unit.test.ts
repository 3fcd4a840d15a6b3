import { readdir } from 'node:fs/promises'
import { Command } from 'commander'
import { expect, test } from 'vitest'
import { VERBS } from '../../src/cli/verbs.ts'
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

test.each(names)('`snapflip %s --help` says what it does, with an example and the common options', (name) => {
  const command = program.commands.find((each) => each.name() === name)
  let help = ''
  command?.configureOutput({ writeOut: (text) => (help += text) }).outputHelp()
  expect(help).toMatch(new RegExp(`Examples?:\n  \\$ snapflip ${name}`))
  for (const option of ['--config', '--json', '--verbose']) expect(help).toContain(option)
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
  [['history', 'shop', '--since', 'x'], /Expected a time such as/],
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
