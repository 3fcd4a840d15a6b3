import type { Anchor } from '../../schemas/pointer.ts'
import { anchorText } from '../core/anchor.ts'
import { SnapflipError } from '../core/errors.ts'
import { contradictedAnchor } from './contradicted-anchor.ts'
import { type Db, select, transaction } from './transaction.ts'

/**
 * Records that a person knows why the history does not lead to this anchor. By the database's session_user, whom the policy has to let.
 *
 * @returns the entry, as an anchor itself: its hash covers the history as it was taken for good.
 * @throws SnapflipError USAGE where the history leads to it.
 */
export async function acceptAnchor(
  db: Db,
  { dataset, anchor, reason }: { dataset: string; anchor: Anchor; reason: string },
): Promise<Anchor> {
  if ((await contradictedAnchor(db, anchor)) === null) {
    throw new SnapflipError(
      'USAGE',
      `Expected an anchor that the history does not lead to, found ${anchorText(anchor)} to be its entry ${anchor.seq}. Nothing was accepted.`,
      { dataset, seq: anchor.seq },
    )
  }
  return transaction(db, async (client) => {
    const { seq, hash } = anchor
    const [entry] = await select<{ seq: string }>(client, 'select snapflip.accept_anchor($1, $2, $3, $4) as seq', [
      dataset,
      seq,
      hash,
      reason,
    ])
    const [made] = await select<{ hash: string }>(
      client,
      `select encode(hash, 'hex') as hash from snapflip.history where seq = $1`,
      [entry?.seq],
    )
    if (entry === undefined || made === undefined) throw new Error('snapflip.accept_anchor recorded nothing')
    return { seq: Number(entry.seq), hash: made.hash }
  })
}
