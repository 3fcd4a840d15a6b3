import type pg from 'pg'
import { SnapflipError } from '../core/errors.ts'
import { openFlips } from './flips.ts'

/**
 * A flip whose reply was lost may have been made: its outcome is read from the store and settled before its version is
 * cleaned up, refused or quarantined.
 *
 * @throws SnapflipError CONFLICT
 */
export async function requireNoOpenFlip(client: pg.ClientBase, dataset: string, tag: string): Promise<void> {
  const open = (await openFlips(client, dataset)).find((flip) => flip.to === tag)
  if (open === undefined) return
  throw new SnapflipError(
    'CONFLICT',
    `Expected every flip to ${tag} of ${dataset} to be settled, found ${open.kind} ${open.flipId} (epoch ${open.epoch}) without an outcome. ` +
      `Read it from the store first; see \`snapflip status ${dataset}\`.`,
    { dataset, tag, flipId: open.flipId, epoch: open.epoch },
  )
}
