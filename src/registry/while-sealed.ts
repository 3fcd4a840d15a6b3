import { SnapflipError } from '../core/errors.ts'
import { lockDataset } from './dataset-lock.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

/**
 * Runs `work`, seconds at most, while the version is sealed with this manifest and no other attempt can seal it anew: the lock of the
 * dataset's row is held.
 *
 * @throws SnapflipError CONFLICT when it is sealed with another one, SUPERSEDED when its refresh is closed.
 */
export async function whileSealed(
  db: Db,
  { dataset, tag, manifestSha256 }: { dataset: string; tag: string; manifestSha256: string },
  work: () => Promise<void>,
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const now = await version(client, dataset, tag)
    if (now.refreshId !== null) await requireOpenRefresh(client, dataset, now.refreshId)
    if (now.state !== 'sealed' || now.manifestSha256 !== manifestSha256) {
      throw new SnapflipError(
        'CONFLICT',
        `Expected ${tag} of ${dataset} to be sealed with manifest ${manifestSha256}, found it ${now.state} with ${now.manifestSha256 ?? 'none'}. ` +
          `Another attempt came first; see \`snapflip show ${dataset} ${tag}\`.`,
        { dataset, tag, state: now.state, manifest: now.manifestSha256, expected: manifestSha256 },
      )
    }
    await work()
  })
}
