import type { Command } from 'commander'
import { waivedText } from '../core/judgement.ts'
import { authorize } from '../registry/authorize.ts'
import { waive as waiveGate } from '../registry/waive.ts'
import { moment } from './moment.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  until: Date
  reason: string
}

export function waive(program: Command): void {
  verb(program, {
    usage: 'waive <dataset> <tag> <gate>',
    summary: 'let a version pass one gate that refused it, for a time; the next refresh takes it again',
    examples: [
      [
        'snapflip waive shop v20260518-02 changeVolume --until 2026-05-19 --reason "the brand was sold"',
        'of what this version holds, and nothing else',
      ],
    ],
    more: 'The waiver is for what the version holds: the same content passes under another tag too, until then. Refused are a gate that did not refuse the version, integrity (its bytes are damaged), a time that is past, and whoever the policy does not let.',
    ends: ['UNKNOWN_VERSION', 'FORBIDDEN'],
  })
    .requiredOption('--until <time>', 'when the waiver ends: 2026-05-19 or 2026-05-19T09:30:00Z', moment)
    .requiredOption('--reason <text>', 'shown in the evidence, kept in the history', reason)
    .action(act<Options, [string, string, string]>(run))
}

async function run(
  session: Session,
  { until, reason }: Options,
  dataset: string,
  tag: string,
  gate: string,
): Promise<Answer> {
  await session.dataset(dataset)
  const registry = await session.registry()
  await authorize(registry, { dataset, action: 'waive', version: tag, reason })
  const waived = await waiveGate(registry, { dataset, tag, gate, until, reason })
  return {
    json: { dataset, tag, gate, ...waived },
    text: `${gate} of ${tag} of ${dataset}: ${waivedText(waived)}. The next refresh takes it again: \`snapflip refresh ${dataset}\`.`,
  }
}
