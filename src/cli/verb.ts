import type { Command } from 'commander'
import { ERRORS, type ErrorCode } from '../core/errors.ts'
import { Session } from './session.ts'

/** What a verb found or did. */
export interface Answer {
  /** The one document of --json. */
  json: unknown
  /** The same for people, without a newline at its end. */
  text: string
  /** It did what it was asked to, and what came of it has an exit code of its own: HELD, REJECTED, … */
  code?: ErrorCode
  /** Ctrl-C ended the looking, not the work: the exit code is what a shell gives to that. */
  detached?: boolean
}

/** What every verb takes. */
export interface CommonOptions {
  config?: string
  json?: boolean
  verbose?: boolean
}

export interface VerbDescription {
  /** `refresh <dataset>` */
  usage: string
  /** One sentence. */
  summary: string
  /** Command lines that work, each with what it is for. */
  examples: readonly (readonly [line: string, purpose: string])[]
  /** Of one that changes something: what else happens with it, and what it refuses. */
  more?: string
  /** How it ends otherwise than done: what is particular to it. Any verb may end with what is not reachable, or not well. */
  ends?: readonly ErrorCode[]
}

/** Of the help. */
const COLUMNS = 100

/** Adds a verb with the common options and its examples; `act` gives it its work. */
export function verb(program: Command, { usage, summary, examples, more, ends = [] }: VerbDescription): Command {
  const width = Math.max(...examples.map(([line]) => line.length))
  const lines = examples.map(([line, purpose]) => `  $ ${line.padEnd(width)}  # ${purpose}`)
  const parts = [
    ...(more === undefined ? [] : [wrapped(more)]),
    `Example${lines.length === 1 ? '' : 's'}:\n${lines.join('\n')}`,
    wrapped(exitCodes(['USAGE', ...ends])),
  ]
  return withCommonOptions(program.command(usage).description(summary)).addHelpText('after', `\n${parts.join('\n\n')}`)
}

/** By number; codes that share one are told together. */
function exitCodes(codes: readonly ErrorCode[]): string {
  const numbers = [...new Set(codes.map((code) => ERRORS[code].exit))].sort((a, b) => a - b)
  const told = numbers.map((exit) => `${exit} ${codes.filter((code) => ERRORS[code].exit === exit).join(' or ')}`)
  return `Exit codes: 0 done, ${told.join(', ')}; all are in runbooks/errors.md.`
}

function wrapped(text: string): string {
  return text.replace(new RegExp(`(?=.{${COLUMNS + 1}})(.{1,${COLUMNS}}) `, 'g'), '$1\n')
}

export function withCommonOptions(command: Command): Command {
  return command
    .option('--config <file>', 'the definition; without it the nearest snapflip.config.ts, .js or .json upwards')
    .option('--json', 'print one JSON document on stdout, errors as {code, message, details}')
    .option('--verbose', 'print the stack of an error')
}

/** How a verb ended, for `main` to print. */
export interface Ended {
  answer: Answer
  options: CommonOptions
}

/**
 * Wraps a verb's work for commander: gives it a session, closes what the session opened, and hands the answer to `main`. Arguments come in the
 * order of the usage; those that were left out are undefined.
 */
export function act<O extends CommonOptions, A extends unknown[] = []>(
  work: (session: Session, options: O, ...args: A) => Promise<Answer>,
): (this: Command, ...all: unknown[]) => Promise<void> {
  return async function (this: Command, ...all: unknown[]) {
    const options = this.optsWithGlobals<O>()
    const args = all.slice(0, this.registeredArguments.length) as A
    const session = new Session(options)
    try {
      const answer = await work(session, options, ...args)
      ended.push({ answer, options })
    } finally {
      await session.close()
    }
  }
}

/** One process runs one verb. */
export const ended: Ended[] = []
