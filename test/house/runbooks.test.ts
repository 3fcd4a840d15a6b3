import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CommanderError } from 'commander'
import { describe, expect, it, test } from 'vitest'
import { commandLine } from '../../src/cli/program.ts'
import { RUNBOOKS } from '../../src/observe/alert.ts'
import { quoted, root, runbooks, wordsOf } from './quoted-commands.ts'

/** What commander says against it; null when it parses. Nothing is run. */
function refusal(line: string, whole: boolean): string | null {
  const program = commandLine()
  const verbs = program.commands.flatMap((command) => [command, ...command.commands])
  for (const command of [program, ...verbs]) {
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

/** Whoever is woken looks for what they see: the page of each symptom stays. */
test.each([
  ['a failed gate', 'failed-gate'],
  ['a stuck refresh', 'stuck-refresh'],
  ['a rollback during an incident', 'rollback-in-an-incident'],
  ['Redis lost or failed over', 'store-rebound'],
  ['S3 unavailable', 's3-unavailable'],
  ['PostgreSQL down', 'postgres-down'],
  ['lineage broken', 'lineage-broken'],
  ['a changelog that grows', 'changelog-growing'],
  ['drift found', 'drift-found'],
  ['a history chain that is broken', 'history-chain-broken'],
  ['a worker backlog', 'worker-backlog'],
])('%s has its runbook', (_symptom, page) => {
  expect(runbooks).toContain(`runbooks/${page}.md`)
})

describe.each(runbooks)('%s', (page) => {
  it('begins with the tempting wrong move, then symptom, confirm, act, verify, undo', async () => {
    const text = await readFile(join(root, page), 'utf8')
    const headings = [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)
    expect(headings).toEqual(['Symptom', 'Confirm', 'Act', 'Verify', 'Undo'])
    expect(text).toMatch(/^# .+\n\n\*\*The tempting wrong move\*\* /)
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
