#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { ERRORS, SnapflipError } from '../core/errors.ts'
import { printError } from './print-error.ts'
import { ended, withCommonOptions } from './verb.ts'
import { VERBS } from './verbs.ts'

/** The command line: parses, runs one verb, prints its answer, sets the exit code. */
const argv = process.argv.slice(2)
// What they ask for holds for wrong command lines too, which commander refuses before it has read them.
const wanted = { json: argv.includes('--json'), verbose: argv.includes('--verbose') }

const program = new Command('snapflip')
  .description('Index versions: built from committed changes, proven, flipped to in one step, and taken back.')
  .version(packageVersion())
  .helpCommand(false)
  .showHelpAfterError(false)
  // Each verb reads its own options, so that its --version may be a tag; the common ones may stand before it too.
  .enablePositionalOptions()
  .exitOverride()
  .configureOutput({ outputError: () => {} })
withCommonOptions(program)
for (const declare of VERBS) declare(program)
// In place of commander's own, which answers a verb that it does not know with the whole list.
withCommonOptions(program.command('help [verb]').description('say more about a verb')).action((asked?: string) => {
  const found = asked === undefined ? program : program.commands.find((command) => command.name() === asked)
  return found === undefined ? program.error(`error: unknown command '${asked}'`) : found.help()
})

// A reader that went away (`| head`) is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? 0 : ERRORS.INTERNAL.exit),
)

const EXIT_DETACHED = 130

process.exitCode = await run()

async function run(): Promise<number> {
  try {
    await program.parseAsync(argv, { from: 'user' })
    const last = ended.at(-1)
    if (last === undefined) return 0
    const { answer, options } = last
    const text = options.json ? JSON.stringify(answer.json, null, 2) : answer.text
    if (text !== '') process.stdout.write(`${text}\n`)
    if (answer.detached) return EXIT_DETACHED
    return answer.code === undefined ? 0 : ERRORS[answer.code].exit
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0
    return printError(error instanceof CommanderError ? usageError(error) : error, wanted)
  }
}

function usageError(error: CommanderError): SnapflipError {
  if (error.code === 'commander.help') {
    return new SnapflipError('USAGE', 'Expected a verb, found none; they are listed above.')
  }
  const said = error.message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '')
  const name = program.commands.map((command) => command.name()).find((verb) => verb !== 'help' && argv.includes(verb))
  const more = name === undefined ? 'snapflip --help' : `snapflip ${name} --help`
  return new SnapflipError('USAGE', `${said.charAt(0).toUpperCase()}${said.slice(1)}. See \`${more}\`.`, {
    command: name ?? null,
  })
}

/** Of the package.json next above: the checkout's, or the installed package's above dist. */
function packageVersion(): string {
  for (let folder = new URL('..', import.meta.url); ; folder = new URL('..', folder)) {
    const file = new URL('package.json', folder)
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
    if (folder.pathname === '/') return 'unknown'
  }
}
