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
    more: 'The yes is for exactly this manifest, ends with the request, and is used up by one flip. Refused are your own request, one that nobody verifiably made (begun in the Temporal UI), one that was decided, has expired or whose refresh has ended, and whoever is no approver. A refusal is in the history.',
    ends: ['FORBIDDEN', 'APPROVAL_REFUSED'],
  })
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .action(
      act<DecideOptions, [string, string]>((session, options, ...of) => decide(session, 'approved', options, ...of)),
    )
}
