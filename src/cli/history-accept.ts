import type { Command } from 'commander'
import { acceptAnchor } from '../../activities/accept-anchor.ts'
import type { Anchor } from '../../schemas/pointer.ts'
import { anchorText } from '../core/anchor.ts'
import { authorize } from '../registry/authorize.ts'
import { anchor as anchorOf } from './anchor.ts'
import { changeDeps } from './change-deps.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  anchor: Anchor
  reason: string
}

export function historyAccept(history: Command): void {
  verb(history, {
    usage: 'accept <dataset>',
    summary:
      'say that you know why the history does not lead to one anchor, as after a restore: `verify` goes on from here',
    examples: [
      [
        `snapflip history accept shop --anchor 812:${'a1'.repeat(32)} --reason "restored from Sunday's backup"`,
        'the anchor that `history verify` named',
      ],
    ],
    more: 'It is an entry of the history, and its hash goes into the pointer beside the anchor: this one is not compared any more, everything up to that entry is. Another contradiction, or one that comes later, is found as before. Refused are an anchor that the store does not have, one that the history leads to, and whoever the policy does not let. First find out why it is so: runbooks/history-chain-broken.md.',
    ends: ['FORBIDDEN'],
  })
    .requiredOption('--anchor <seq:hash>', 'the anchor, as `history verify` names it', anchorOf)
    .requiredOption('--reason <text>', 'printed by every `history verify` from now on', reason)
    .action(act<Options, [string]>(run))
}

async function run(session: Session, { anchor, reason }: Options, dataset: string): Promise<Answer> {
  await session.dataset(dataset)
  const registry = await session.registry()
  const { actor: by } = await authorize(registry, { dataset, action: 'accept', reason })
  const entry = await acceptAnchor(changeDeps(session, registry), { dataset, anchor, by, reason })
  return {
    json: { dataset, anchor, by, reason, entry },
    text: `${anchorText(anchor)} of ${dataset} is accepted by entry ${anchorText(entry)}, which \`snapflip history verify\` compares from now on.`,
  }
}
