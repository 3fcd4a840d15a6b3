import type { Command } from 'commander'
import { type DecideOptions, decide } from './decide.ts'
import { reason } from './reason.ts'
import { act, verb } from './verb.ts'

export function approve(program: Command): void {
  verb(program, {
    usage: 'approve <dataset> <tag>',
    summary: 'say yes to a version that waits for it, as somebody other than asked for it; its refresh goes on',
    examples: [
      ['snapflip approve shop v20260518-02 --reason "prices checked"', 'after `snapflip show shop v20260518-02`'],
    ],
  })
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .action(
      act<DecideOptions, [string, string]>((session, options, ...of) => decide(session, 'approved', options, ...of)),
    )
}
