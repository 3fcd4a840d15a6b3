import type { Command } from 'commander'
import { type DecideOptions, decide } from './decide.ts'
import { reason } from './reason.ts'
import { act, verb } from './verb.ts'

export function reject(program: Command): void {
  verb(program, {
    usage: 'reject <dataset> <tag>',
    summary: 'say no to a version that waits for an approval; its refresh ends, readers stay where they are',
    examples: [['snapflip reject shop v20260518-02 --reason "wrong currency"', 'the version is rejected for good']],
    more: 'It is not built again until the source or the policy changed. Refused are one that was decided, has expired or whose refresh has ended, and whoever is no approver. A refusal is in the history.',
    ends: ['FORBIDDEN', 'APPROVAL_REFUSED'],
  })
    .requiredOption('--reason <text>', 'kept in the history', reason)
    .action(
      act<DecideOptions, [string, string]>((session, options, ...of) => decide(session, 'rejected', options, ...of)),
    )
}
