import { Command } from 'commander'
import { PACKAGE_VERSION } from '../package-version.ts'
import { withCommonOptions } from './verb.ts'
import { VERBS } from './verbs.ts'

/** The command line with all its verbs; a wrong one is thrown as commander's own error, and nothing is printed. */
export function commandLine(): Command {
  const program = new Command('snapflip')
    .description('Index versions: built from committed changes, proven, flipped to in one step, and taken back.')
    .version(PACKAGE_VERSION)
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
  return program
}
