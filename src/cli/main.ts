#!/usr/bin/env node
import { CommanderError } from 'commander'
import { ERRORS, SnapflipError } from '../core/errors.ts'
import { printError } from './print-error.ts'
import { commandLine } from './program.ts'
import { ended } from './verb.ts'

/** The command line: parses, runs one verb, prints its answer, sets the exit code. */
const argv = process.argv.slice(2)
// What they ask for holds for wrong command lines too, which commander refuses before it has read them.
const wanted = { json: argv.includes('--json'), verbose: argv.includes('--verbose') }

const program = commandLine()

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
