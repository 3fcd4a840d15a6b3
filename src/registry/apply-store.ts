import { SnapflipError } from '../core/errors.ts'
import { appliedStore } from './applied-store.ts'
import { copies } from './copies.ts'
import { lockDataset } from './dataset-lock.ts'
import { openRefreshOf } from './open-refresh-of.ts'
import { promoteStore } from './promote-store.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Records where the dataset's versions are. Another store than before is a move: the next refresh builds from the source, and nothing of the
 * store before is missed in the new one. Unless that one already holds the active version (`holds` looks): then only its address changed, or a further
 * store takes the place of the first.
 *
 * @throws SnapflipError REFRESH_RUNNING when a refresh is writing to the store before.
 */
export async function applyStore(
  db: Db,
  {
    dataset,
    url,
    by,
    holds,
  }: {
    dataset: string
    url: string
    by: string | null
    holds: (version: { tag: string; manifestSha256: string }) => Promise<boolean>
  },
): Promise<{ movedFrom: string | null }> {
  const before = await appliedStore(db, dataset)
  const [active] = (
    await db.query<{ tag: string; manifestSha256: string }>(
      `select tag, manifest_sha256 as "manifestSha256" from snapflip.index_versions where dataset = $1 and state = 'active'`,
      [dataset],
    )
  ).rows
  // Asked before the transaction: a store that does not answer must not keep the dataset locked.
  const isMove = before.url !== null && before.url !== url && active !== undefined
  const copy = isMove ? (await copies(db, { dataset, url })).get(active.tag) : undefined
  const isCopied = copy !== undefined && (await holds({ tag: copy.tag, manifestSha256: copy.manifest }))
  const isThere = !isMove || isCopied || (await holds(active))
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const now = await appliedStore(client, dataset)
    const from = now.url === url ? null : now.url
    const open = from === null ? null : await openRefreshOf(client, dataset)
    if (open !== null) {
      throw new SnapflipError(
        'REFRESH_RUNNING',
        `Expected no open refresh of ${dataset} while it moves from ${from} to ${url}, found workflow ${open.workflowId} at work. ` +
          `Wait for it, or \`snapflip cancel ${dataset}\`.`,
        { dataset, workflowId: open.workflowId, store: url, movedFrom: from },
      )
    }
    const { rowCount } = await client.query(SET_STORE, [dataset, url, from === null || isThere])
    if (rowCount === 0) return { movedFrom: null }
    if (from !== null && isCopied) await promoteStore(client, { dataset, from, url })
    const detail = { store: url, movedFrom: from, holdsActive: from === null ? null : isThere, isCopied }
    await record(client, { dataset, actor: by, kind: 'store.applied', detail })
    return { movedFrom: from }
  })
}

const SET_STORE = `
  update snapflip.datasets
     set store = $2, store_epoch = case when $3 then store_epoch else epoch_registry end
   where name = $1 and store is distinct from $2`

/**
 * A mistyped store looks like one that lost everything, and another one's pointer like the dataset's own.
 *
 * @throws SnapflipError NOT_APPLIED unless the dataset's versions are known to be in this store.
 */
export async function requireStore(db: Db, { dataset, url }: { dataset: string; url: string }): Promise<void> {
  const applied = await appliedStore(db, dataset)
  if (applied.url === null || applied.url === url) return
  throw new SnapflipError(
    'NOT_APPLIED',
    `Expected ${dataset} in ${applied.url}, where its versions are, found the store ${url} in the definition. ` +
      `Correct \`stores\` and start the worker again; or, if it shall move there and be built anew, \`snapflip apply ${dataset}\`.`,
    { dataset, expected: applied.url, store: url },
  )
}
