import type { Config } from '../../schemas/config.ts'
import type { Missing } from '../../schemas/incident.ts'
import { isSnapflipError, type SnapflipError } from '../core/errors.ts'
import { type HistoryHead, verifyHistory } from '../registry/verify-history.ts'
import { openStore } from '../stores/open.ts'
import type { Session } from './session.ts'

/** Whether the chain verifies, and the anchors that it could not be compared with. */
export type VerifiedChain = { missing: Missing[] } & (
  | ({ verified: true; anchors: number } & HistoryHead)
  | { verified: false; error: SnapflipError }
)

/**
 * Walks the whole chain and compares it with the anchors in the stores, of one dataset or of all, and with those that somebody noted elsewhere.
 *
 * @throws SnapflipError UNKNOWN_DATASET
 */
export async function verifiedChain(
  session: Session,
  { dataset, noted = [] }: { dataset?: string | undefined; noted?: readonly HistoryHead[] } = {},
): Promise<VerifiedChain> {
  const { datasets } = await session.config()
  const compare = dataset === undefined ? datasets : { [dataset]: await session.recordedDataset(dataset) }
  const registry = await session.registry()
  // Before the chain: an anchor written meanwhile would be ahead of what is read.
  const { anchors, missing } = await anchorsOf(session, compare)
  const compared = [...anchors, ...noted]
  try {
    return {
      verified: true,
      ...(await verifyHistory(registry, { anchors: compared })),
      anchors: compared.length,
      missing,
    }
  } catch (error) {
    if (!isSnapflipError(error, 'HISTORY_BROKEN')) throw error
    return { verified: false, error, missing }
  }
}

/**
 * What every flip left of the chain in its stores, those among them that a later flip found contradicted: whoever rewrites or cuts the history in the
 * database does not reach these.
 */
async function anchorsOf(
  session: Session,
  datasets: Config['datasets'],
): Promise<{ anchors: HistoryHead[]; missing: Missing[] }> {
  const { stores } = await session.config()
  const anchors: HistoryHead[] = []
  const missing: Missing[] = []
  for (const [dataset, definition] of Object.entries(datasets)) {
    for (const name of definition.stores) {
      try {
        const store = await openStore(stores[name] ?? '', { dataset })
        session.onClose(() => store.close())
        const pointer = (await store.pointer.read())?.pointer
        const left = [...(pointer?.contradicted ?? []), ...(pointer?.anchor ? [pointer.anchor] : [])]
        anchors.push(...left.map(({ seq, hash }) => ({ entries: seq, hash })))
      } catch (error) {
        if (!isSnapflipError(error)) throw error
        missing.push({ part: `the anchor of ${dataset} in ${name}`, why: error.message })
      }
    }
  }
  return { anchors, missing }
}
