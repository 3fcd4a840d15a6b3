import type { Anchor } from '../../schemas/pointer.ts'
import { type Db, select } from './transaction.ts'

/**
 * The anchor, where this history does not lead to it: its entry is gone or has another hash (a look-up by primary key). Entries that a flip left
 * its anchor for were committed before it was made.
 */
export async function contradictedAnchor(db: Db, anchor: Anchor | null): Promise<Anchor | null> {
  if (anchor === null) return null
  const [entry] = await select<{ hash: string }>(
    db,
    `select encode(hash, 'hex') as hash from snapflip.history where seq = $1`,
    [anchor.seq],
  )
  return entry?.hash === anchor.hash ? null : anchor
}
